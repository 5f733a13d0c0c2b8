//! Reading templates: positions, intrinsics, and what bounds a template that is made to be large.

use indexmap::IndexMap;
use serde_json::json;

use super::{Code, Pseudo, Template, local_code, yaml};

fn pseudo() -> Pseudo {
    Pseudo {
        account_id: "000000000042".into(),
        region: "us-east-1".into(),
        stack_name: "app".into(),
        stack_id: "arn:aws:cloudformation:us-east-1:000000000042:stack/app/0".into(),
    }
}

fn parameters(pairs: &[(&str, &str)]) -> IndexMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// The problems of a template, as they are shown.
fn problems(text: &str, given: &[(&str, &str)]) -> Vec<String> {
    match crate::check(text, &parameters(given), &pseudo()) {
        Ok(()) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn scalars_are_what_cloudformation_takes_them_for() {
    let text = "a: 010\nb: 2010-09-09\nc: 1.5\nd: yes\ne: ~\nf: '12'\ng: 123456789012\nh: !Sub 'x'\ni: 0\nj: -3\nk: 1e3";
    let value = yaml::read(text).unwrap().to_json();
    let wanted = json!({
        "a": "010", "b": "2010-09-09", "c": 1.5, "d": true, "e": null, "f": "12", "g": 123_456_789_012_u64,
        "h": {"Fn::Sub": "x"}, "i": 0, "j": -3, "k": "1e3",
    });
    assert_eq!(value, wanted);
}

#[test]
fn short_and_long_intrinsics_are_one() {
    let short = "a: !GetAtt B.C.D\nb: !If [X, !Ref Y, !Join [',', [a, b]]]\nc: !Select [0, !Split ['|', x]]\nd: !Condition Z";
    let long = r#"{"a": {"Fn::GetAtt": ["B", "C.D"]}, "b": {"Fn::If": ["X", {"Ref": "Y"}, {"Fn::Join": [",", ["a", "b"]]}]},
        "c": {"Fn::Select": [0, {"Fn::Split": ["|", "x"]}]}, "d": {"Condition": "Z"}}"#;
    assert_eq!(yaml::read(short).unwrap(), yaml::read(long).unwrap());
}

#[test]
fn json_is_read_with_tabs_and_escapes() {
    let text = "{\t\"a\":\t\"\\u00e9\\/\\ud83d\\ude00\",\n\t\"b\": [1, true, null, \"x\\\"y\\\\\"]}";
    let value = yaml::read(text).unwrap();
    assert_eq!(value.to_json(), serde_json::from_str::<serde_json::Value>(text).unwrap());
    assert_eq!(value.get("b").unwrap().at.line, 2);
}

#[test]
fn functions_can_not_blow_a_template_up() {
    let with = |value: serde_json::Value| {
        json!({"Resources": {"B": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": value}}}})
            .to_string()
    };
    let long = "x".repeat(100);
    let mut doubled = json!(long);
    for _ in 0..25 {
        doubled = json!({"Fn::Sub": ["${a}${a}", {"a": doubled}]});
    }
    let joined = |separator: &serde_json::Value| json!({"Fn::Join": [separator, vec!["x"; 1000]]});
    let joins = joined(&joined(&joined(&json!(long))));
    let split = json!({"Fn::Join": ["", {"Fn::Split": ["x", joined(&joined(&json!("xxxx")))]}]});
    for bomb in [doubled, joins, split] {
        let found = problems(&with(bomb), &[]);
        assert!(found.iter().any(|p| p.contains("what the template comes to")), "{found:?}");
        assert!(found.len() < 10, "{found:?}");
    }
}

#[test]
fn there_are_quotas() {
    let resources: IndexMap<String, _> =
        (0..501).map(|i| (format!("B{i}"), json!({"Type": "AWS::S3::Bucket"}))).collect();
    let found = problems(&json!({ "Resources": resources }).to_string(), &[]);
    assert!(found[0].contains("Number of resources, 501, is greater than maximum allowed, 500"), "{found:?}");

    let pattern = |pattern: &str| {
        let parameter = json!({"Type": "String", "AllowedPattern": pattern});
        let text = json!({"Parameters": {"P": parameter}, "Resources": {"B": {"Type": "AWS::S3::Bucket"}}});
        problems(&text.to_string(), &[("P", "aaaa")])
    };
    assert_eq!(pattern("a{2,20}"), Vec::<String>::new());
    assert!(pattern("((a{0,100}){0,100}){0,100}")[0].contains("can not be used"));
    let many =
        json!({"Parameters": {"P": {"Type": "String"}}, "Resources": {"B": {"Type": "AWS::S3::Bucket"}}});
    let found = problems(&many.to_string(), &[("P", &"x".repeat(5000))]);
    assert!(found[0].contains("at most 4096 bytes"), "{found:?}");
}

#[test]
fn bombs_are_defused() {
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (name, before) in ["b", "c", "d", "e", "f", "g"].iter().zip(["a", "b", "c", "d", "e", "f"]) {
        bomb.push_str(&format!("{name}: &{name} [{}]\n", vec![format!("*{before}"); 10].join(", ")));
    }
    assert!(yaml::read(&bomb).unwrap_err().message.contains("more than"));
    // Few values, much text.
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(40_000), vec!["*a"; 1000].join(", "));
    assert!(yaml::read(&long).unwrap_err().message.contains("what aliases stand for"));
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    assert!(yaml::read(&deep).is_err());
    assert!(yaml::read("a: &a [*a]").is_err());
    assert_eq!(yaml::read("a: &x {b: 1}\nc: *x").unwrap().to_json(), json!({"a": {"b": 1}, "c": {"b": 1}}));
}

#[test]
fn every_problem_comes_with_its_line() {
    let text = r"Transform: AWS::Serverless-2016-10-31
Parameters:
  Bad: {Type: AWS::SSM::Parameter::Value<String>}
Resources:
  Queue:
    Type: AWS::SNS::Topic
  F:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: s3://b/k
      Runtime: python3.12
      Handler: a.b
      VpcConfig: {}
      Environment: {Variables: {A: !Ref Nobody, B: !GetAtt F.Nothing}}
      Policies:
        - S3ReadPolicy: {Bucket: x}
        - NoSuchPolicy: {A: x}
      Events:
        Http: {Type: Api, Properties: {Path: /}}
  B:
    Type: AWS::S3::Bucket
    CreationPolicy: {}
    Properties: {BucketName: !ImportValue x}
Outputs:
  O: {Value: !Sub '${Missing.Arn}', Export: {Name: n}}
";
    let expected = [
        "line 3, column 9: parameter type `AWS::SSM::Parameter::Value<String>` is not supported",
        "line 6, column 5: resource type `AWS::SNS::Topic` of `Queue` is not supported",
        "line 13, column 7: property `VpcConfig` of AWS::Serverless::Function `F` is not supported",
        "line 14, column 33: `Nobody` is neither a parameter nor a resource",
        "line 14, column 49: `Nothing` is not an attribute of AWS::Lambda::Function (supported: Arn)",
        "line 16, column 11: the policy template S3ReadPolicy needs `BucketName`",
        "line 16, column 26: the policy template S3ReadPolicy has no parameter `Bucket`",
        "line 17, column 11: there is no policy template `NoSuchPolicy`",
        "line 19, column 16: events of type `Api` are not supported",
        "line 22, column 5: `CreationPolicy` of resource `B` is not supported",
        "line 23, column 18: `Fn::ImportValue` is not supported",
        "line 25, column 7: there is no resource `Missing`",
        "line 25, column 37: output `O`: Export is not supported",
    ];
    let found = problems(text, &[]);
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn values_are_checked_where_they_stand() {
    let table: &[(&str, &str)] = &[
        (
            "Resources:\n  B:\n    Type: AWS::S3::Bucket\n    Properties:\n      Colour: red",
            "line 5, column 7: AWS::S3::Bucket `B`.Colour is not supported; supported are",
        ),
        (
            "Resources:\n  T:\n    Type: AWS::DynamoDB::Table",
            "line 2, column 3: AWS::DynamoDB::Table `T` needs the property AttributeDefinitions",
        ),
        (
            "Resources:\n  A: {Type: AWS::S3::Bucket, DependsOn: B}\n  B: {Type: AWS::S3::Bucket, DependsOn: A}",
            "line 2, column 7: Circular dependency between resources: [A, B]",
        ),
        (
            "Resources:\n  A: {Type: AWS::S3::Bucket, Properties: {BucketName: [x]}}",
            "line 2, column 43: AWS::S3::Bucket `A`.BucketName must be text, and is a list",
        ),
        (
            "Resources:\n  A: {Type: AWS::S3::Bucket, Properties: {BucketName: !Select [3, [x]]}}",
            "line 2, column 43: `Fn::Select` of 3 from a list of 1",
        ),
        (
            "Resources:\n  A: {Type: AWS::S3::Bucket}\n  A: {Type: AWS::S3::Bucket}",
            "line 3, column 3: Template format error: the key `A` is there twice",
        ),
        (
            "Conditions:\n  A: !Not [!Condition A]\nResources:\n  B: {Type: AWS::S3::Bucket}",
            "line 2, column 12: condition `A` depends on itself",
        ),
        ("Rules: {}\nResources: {}", "line 1, column 1: the section `Rules` is not supported"),
        ("Resources:\n  F: {Type: AWS::Serverless::SimpleTable}", "line 2, column 7: `F` is a SAM resource"),
        (
            "Resources:\n  Q:\n    Type: AWS::SQS::Queue\n    Properties: {Tags: [{Key: t, Value: '{{resolve:ssm:/t:1}}'}]}",
            "line 4, column 34: dynamic references",
        ),
        (
            "Resources:\n  Q: {Type: AWS::SQS::Queue, Properties: {QueueName: !Sub '{{resolve:ssm:/${AWS::StackName}}}'}}",
            "dynamic references",
        ),
        ("a: b: c", "line 1"),
        ("", "the template"),
    ];
    for (text, expected) in table {
        let found = problems(text, &[]);
        assert!(found.iter().any(|p| p.contains(expected)), "{text}\n{found:#?}\n{expected}");
    }
}

#[test]
fn parameters_are_checked() {
    let text = "Parameters:\n  S: {Type: String, AllowedValues: [a, b], Default: a}\n  N: {Type: Number, MinValue: 1, MaxValue: 9, Default: 1}\n  \
                P: {Type: String, AllowedPattern: '[a-z]+', MinLength: 2, Default: xy}\n  L: {Type: CommaDelimitedList, Default: 'x, y'}\n\
                Resources:\n  B: {Type: AWS::S3::Bucket, Properties: {BucketName: !Join ['-', !Ref L]}}";
    assert_eq!(problems(text, &[]), Vec::<String>::new());
    let table = [
        ("S", "c", "must be one of AllowedValues [a, b]"),
        ("N", "x", "must be a number."),
        ("N", "10", "must be a number not greater than 9"),
        ("P", "x", "must contain at least 2 characters"),
        ("P", "XY", "must match pattern [a-z]+"),
        ("Q", "x", "Parameters: [Q] do not exist in the template"),
    ];
    for (name, value, expected) in table {
        let found = problems(text, &[(name, value)]);
        assert!(found.len() == 1 && found[0].contains(expected), "{name}={value}: {found:?}");
    }
    let missing = "Parameters: {A: {Type: String}}\nResources: {B: {Type: AWS::S3::Bucket}}";
    assert_eq!(problems(missing, &[]), ["Parameters: [A] must have values"]);
}

#[test]
fn code_on_the_machine_is_found_and_refused_when_it_is_deployed() {
    let text = "Transform: AWS::Serverless-2016-10-31\nGlobals: {Function: {Runtime: python3.12}}\nResources:\n  F:\n    \
                Type: AWS::Serverless::Function\n    Properties:\n      CodeUri: src/\n      Handler: a.b\n";
    assert_eq!(problems(text, &[]), Vec::<String>::new());
    let code = local_code(text);
    assert_eq!((code[0].logical_id.as_str(), code[0].path.as_str(), code[0].at.line), ("F", "src/", 7));
    assert_eq!(code[0].runtime.as_deref(), Some("python3.12"));
    assert_eq!(&text[code[0].span.0..code[0].span.1], "src/");
    let method = |metadata: &str| {
        local_code(&format!("{text}    Description: of mine\n    Metadata: {metadata}"))[0]
            .build_method
            .clone()
    };
    assert_eq!(method("{BuildMethod: esbuild}").as_deref(), Some("esbuild"));
    assert_eq!(method("{BuildMethod: esbuild, SamResourceId: F}"), None);
    let refused = Template::read(text, Code::Packaged).unwrap_err();
    assert!(
        refused[0].to_string().starts_with("line 7, column 7: CodeUri `src/` of `F` is not in S3"),
        "{refused:?}"
    );
}

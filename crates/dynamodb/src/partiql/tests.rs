//! Statements, and texts that are none.

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Statement, Error> {
    Statement::parse(text, &[])
}

#[test]
fn statements_are_read() {
    let Statement::Select(select) = parse(
        "select a, b.c[1] FROM \"t\".\"i\" WHERE a = 'it''s' AND (b > 1.5e3 OR NOT c IS MISSING) ORDER BY b DESC;",
    )
    .unwrap() else {
        panic!("it is a SELECT")
    };
    assert_eq!((&*select.table, select.index.as_deref()), ("t", Some("i")));
    let names: Vec<_> = select.columns.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a", "c[1]"]);
    assert_eq!(select.conditions.len(), 2);
    assert_eq!(select.order, [("b".to_owned(), true)]);
    let (at, values) = partitions(&select.conditions, "a").unwrap();
    assert_eq!((at, values), (0, vec![AttributeValue::S("it's".into())]));

    let Statement::Insert { item, .. } =
        parse("INSERT INTO t VALUE {'a': -1, 'l': [TRUE, NULL, {'x': <<1, 2>>}], 's': <<'b', 'a'>>}")
            .unwrap()
    else {
        panic!("it is an INSERT")
    };
    assert_eq!(item["s"], AttributeValue::Ss(vec!["a".into(), "b".into()]));
    let update = parse(
        "UPDATE t SET a = a + 1 SET b = list_append(b, [1]), c = set_add(c, <<1>>) REMOVE d WHERE k = 1 RETURNING ALL NEW *",
    );
    assert!(matches!(update, Ok(Statement::Update { returning: Returning::AllNew, .. })), "{update:?}");
}

#[test]
fn what_is_no_statement_is_refused() {
    for text in [
        "",
        ";",
        "SELECT",
        "SELECT * FROM",
        "SELECT * FROM t WHERE",
        "SELECT * FROM t WHERE a",
        "DROP TABLE t",
        "SELECT * FROM t extra",
        "INSERT INTO t VALUE 1",
        "INSERT INTO t VALUE {'a': 1, 'a': 2}",
        "UPDATE t WHERE a = 1",
        "UPDATE t SET a = 1, a.b = 2 WHERE k = 1",
        "SELECT * FROM t WHERE a = 'x",
        "DELETE FROM t WHERE a IN []",
        "INSERT INTO t VALUE {'a': <<1, 'x'>>}",
        "INSERT INTO t VALUE {'a': <<1, 1>>}",
        "SELECT * FROM t WHERE f(a, b)",
        "SELECT * FROM t WHERE a = ?",
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
    for (open, close) in [("(", ")"), ("NOT ", ""), ("[", "]")] {
        let text = format!("SELECT * FROM t WHERE {}a = 1{}", open.repeat(3000), close.repeat(3000));
        assert!(parse(&text).is_err());
        let text = format!("INSERT INTO t VALUE {{'a': {}1{}}}", open.repeat(3000), close.repeat(3000));
        assert!(parse(&text).is_err());
    }
    assert!(parse(&format!("UPDATE t SET a = a{} WHERE k = 1", " + 1".repeat(2000))).is_err());
    assert!(parse(&format!("SELECT * FROM t WHERE a = '{}'", "x".repeat(9000))).is_err());
}

proptest! {
    #[test]
    fn no_text_does_harm(words in proptest::collection::vec(
        prop_oneof![
            Just("SELECT"), Just("*"), Just("FROM"), Just("t"), Just("WHERE"), Just("("), Just(")"), Just("["), Just("]"),
            Just("{"), Just("}"), Just("'x'"), Just("1"), Just("="), Just(","), Just("AND"), Just("NOT"), Just("IN"),
            Just("BETWEEN"), Just("IS"), Just("<<"), Just(">>"), Just("?"), Just("UPDATE"), Just("SET"), Just("."), Just(":"),
            Just("-"), Just("é"), Just("\""), Just("'"),
        ],
        0..40,
    )) {
        let _ = parse(&words.join(" "));
    }
}

//! Parameters of before expressions (Developer Guide, "Legacy conditional parameters"), turned into what
//! expressions come to: from there on nothing knows in which form a request came.

use serde::Deserialize;

use crate::Error;
use crate::expr::key_condition::{KeyTest, KeyTests};
use crate::expr::{Comparator, Condition, Operand, Path, Projection, Update};
use crate::value::{AttributeValue, Kind, ValueView, encode_value};
use crate::wire::{Constraints, MapOf, Modelled, SingleValue, valid_name};

/// The words of `ComparisonOperator`, in the order in which DynamoDB lists them.
const OPERATORS: [&str; 13] = [
    "IN",
    "NULL",
    "BETWEEN",
    "LT",
    "NOT_CONTAINS",
    "EQ",
    "GT",
    "NOT_NULL",
    "NE",
    "LE",
    "BEGINS_WITH",
    "GE",
    "CONTAINS",
];

/// The most attributes of `AttributesToGet`.
const MAX_ATTRIBUTES: usize = 255;

/// A `Condition`: of `KeyConditions`, `QueryFilter` and `ScanFilter`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct ConditionInput {
    attribute_value_list: Option<Vec<SingleValue>>,
    comparison_operator: Option<String>,
}

/// An `ExpectedAttributeValue`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase", expecting = "struct ExpectedAttributeValue")]
pub(super) struct ExpectedInput {
    value: Option<SingleValue>,
    exists: Option<bool>,
    comparison_operator: Option<String>,
    attribute_value_list: Option<Vec<SingleValue>>,
}

/// An `AttributeValueUpdate`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase", expecting = "struct AttributeValueUpdate")]
pub(super) struct UpdateInput {
    value: Option<SingleValue>,
    action: Option<String>,
}

impl Modelled for ConditionInput {
    const CLASS: &'static str = "com.amazonaws.dynamodb.v20120810.Condition";
}

impl Modelled for ExpectedInput {
    const CLASS: &'static str = "com.amazonaws.dynamodb.v20120810.ExpectedAttributeValue";
}

impl Modelled for UpdateInput {
    const CLASS: &'static str = "com.amazonaws.dynamodb.v20120810.AttributeValueUpdate";
}

pub(super) type Conditions = MapOf<ConditionInput>;
pub(super) type Expected = MapOf<ExpectedInput>;
pub(super) type Updates = MapOf<UpdateInput>;

/// Expressions and legacy parameters exclude each other.
pub(super) fn exclusive(legacy: &[(&str, bool)], expressions: &[(&str, bool)]) -> Result<(), Error> {
    let given = |parameters: &[(&str, bool)]| {
        let given = parameters.iter().filter(|(_, given)| *given);
        given.map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>().join(", ")
    };
    let (legacy, expressions) = (given(legacy), given(expressions));
    if legacy.is_empty() || expressions.is_empty() {
        return Ok(());
    }
    Err(Error::Validation(format!(
        "Can not use both expression and non-expression parameters in the same request: Non-expression parameters: {{{legacy}}} Expression parameters: {{{expressions}}}"
    )))
}

/// Constraints on `ConditionalOperator`.
pub(super) fn operator_constraints(operator: Option<&str>, constraints: &mut Constraints) {
    constraints.one_of(operator, "conditionalOperator", &["OR", "AND"]);
}

/// Constraints on conditions of that parameter.
pub(super) fn conditions_constraints(
    conditions: Option<&Conditions>,
    at: &str,
    constraints: &mut Constraints,
) {
    for (name, condition) in conditions.into_iter().flatten() {
        let at = format!("{at}.{name}.member.comparisonOperator");
        let operator = condition.comparison_operator.as_deref();
        constraints.required(operator, &at).one_of(operator, &at, &OPERATORS);
    }
}

/// Constraints on `Expected`.
pub(super) fn expected_constraints(expected: Option<&Expected>, constraints: &mut Constraints) {
    for (name, condition) in expected.into_iter().flatten() {
        let at = format!("expected.{name}.member.comparisonOperator");
        constraints.one_of(condition.comparison_operator.as_deref(), &at, &OPERATORS);
    }
}

/// Constraints on `AttributesToGet`.
pub(super) fn attributes_constraints(names: Option<&Vec<String>>, at: &str, constraints: &mut Constraints) {
    if let Some(names) = names {
        constraints.len(names.len(), format_args!("'[{}]'", names.join(", ")), at, 1, MAX_ATTRIBUTES);
    }
}

/// `AttributesToGet`, as a projection.
pub(super) fn attributes_to_get(names: &[String]) -> Result<Projection, Error> {
    names.iter().try_for_each(|name| check_name(name))?;
    let mut seen = std::collections::HashSet::new();
    if let Some(name) = names.iter().find(|name| !seen.insert(*name)) {
        return Err(Error::invalid_parameter(format_args!("Duplicate value in attribute name: {name}")));
    }
    Ok(Projection::of(&names.iter().map(|name| path(name)).collect::<Vec<_>>()))
}

fn check_name(name: &str) -> Result<(), Error> {
    valid_name(name).map_err(Error::validation)
}

fn path(name: &str) -> Path {
    Path { head: name.to_owned(), rest: Vec::new() }
}

fn operand(value: &AttributeValue) -> Operand {
    let mut encoded = Vec::new();
    encode_value(value, &mut encoded);
    Operand::Literal(encoded.into())
}

/// Values must be of the operator's number and types.
fn check_values(operator: &str, values: &[AttributeValue]) -> Result<(), Error> {
    let fits = match operator {
        "NULL" | "NOT_NULL" => values.is_empty(),
        "IN" => !values.is_empty(),
        "BETWEEN" => values.len() == 2,
        _ => values.len() == 1,
    };
    if !fits {
        return Err(Error::invalid_parameter(format_args!(
            "Invalid number of argument(s) for the {operator} ComparisonOperator"
        )));
    }
    let Some(first) = values.first() else { return Ok(()) };
    if values.iter().any(|value| value.kind() != first.kind()) {
        return Err(Error::invalid_parameter(
            "AttributeValues inside AttributeValueList must be of same type",
        ));
    }
    Ok(())
}

/// Filters and key conditions take scalars, and sets where they are compared whole.
fn check_kinds(operator: &str, values: &[AttributeValue]) -> Result<(), Error> {
    for value in values {
        let kind = value.kind();
        let fits = match operator {
            // Newer types can be compared whole, too.
            "EQ" | "NE" => true,
            "BEGINS_WITH" => matches!(kind, Kind::S | Kind::B),
            _ => matches!(kind, Kind::S | Kind::N | Kind::B),
        };
        if !fits {
            return Err(Error::invalid_parameter(format_args!(
                "ComparisonOperator {operator} is not valid for {} AttributeValue type",
                kind.name()
            )));
        }
    }
    Ok(())
}

fn check_bounds(operator: &str, values: &[AttributeValue]) -> Result<(), Error> {
    let (true, [low, high]) = (operator == "BETWEEN", values) else { return Ok(()) };
    let [low, high] = [low, high].map(|value| {
        let mut encoded = Vec::new();
        encode_value(value, &mut encoded);
        encoded
    });
    if ValueView::of(&low).scalar() > ValueView::of(&high).scalar() {
        return Err(Error::validation(
            "The BETWEEN condition was provided a range where the lower bound is greater than the upper bound",
        ));
    }
    Ok(())
}

/// The condition that an operator puts on an attribute.
fn condition(name: &str, operator: &str, values: &[AttributeValue]) -> Condition {
    let place = || Operand::Path(path(name));
    let compare = |comparator| Condition::Compare(comparator, place(), operand(&values[0]));
    match operator {
        "NULL" => Condition::NotExists(path(name)),
        "NOT_NULL" => Condition::Exists(path(name)),
        "NE" => compare(Comparator::Ne),
        "LT" => compare(Comparator::Lt),
        "LE" => compare(Comparator::Le),
        "GT" => compare(Comparator::Gt),
        "GE" => compare(Comparator::Ge),
        "CONTAINS" => Condition::Contains(place(), operand(&values[0])),
        // Nothing is said of what is not there.
        "NOT_CONTAINS" => Condition::And(vec![
            Condition::Exists(path(name)),
            Condition::Not(Box::new(Condition::Contains(place(), operand(&values[0])))),
        ]),
        "BEGINS_WITH" => Condition::BeginsWith(place(), operand(&values[0])),
        "IN" => Condition::In(place(), values.iter().map(operand).collect()),
        "BETWEEN" => Condition::Between(place(), operand(&values[0]), operand(&values[1])),
        _ => compare(Comparator::Eq),
    }
}

fn joined(conditions: Vec<Condition>, operator: Option<&str>) -> Condition {
    if operator == Some("OR") { Condition::Or(conditions) } else { Condition::And(conditions) }
}

/// `ConditionalOperator` joins conditions, so there must be some.
pub(super) fn check_operator(operator: Option<&str>, conditions: bool) -> Result<(), Error> {
    if operator.is_some() && !conditions {
        return Err(Error::invalid_parameter(
            "ConditionalOperator cannot be used without Filter or Expected",
        ));
    }
    Ok(())
}

fn valid(values: Option<&Vec<SingleValue>>) -> Result<Vec<AttributeValue>, Error> {
    values.into_iter().flatten().map(|value| value.valid().cloned()).collect()
}

/// The operator and values of a condition, checked.
fn checked(input: &ConditionInput) -> Result<(&str, Vec<AttributeValue>), Error> {
    let operator = input.comparison_operator.as_deref().unwrap_or_default();
    let values = valid(input.attribute_value_list.as_ref())?;
    check_values(operator, &values)?;
    check_kinds(operator, &values)?;
    check_bounds(operator, &values)?;
    Ok((operator, values))
}

/// `QueryFilter` or `ScanFilter`.
pub(super) fn filter(conditions: &Conditions, operator: Option<&str>) -> Result<Condition, Error> {
    let mut out = Vec::with_capacity(conditions.len());
    for (name, input) in conditions {
        check_name(name)?;
        let (operator, values) = checked(input)?;
        out.push(condition(name, operator, &values));
    }
    Ok(joined(out, operator))
}

/// `KeyConditions`.
pub(super) fn key_conditions(conditions: &Conditions) -> Result<KeyTests, Error> {
    let mut tests = KeyTests::new();
    for (name, input) in conditions {
        let (operator, mut values) = checked(input)?;
        let mut next = || values.remove(0);
        let test = match operator {
            "EQ" => KeyTest::Compare(Comparator::Eq, next()),
            "LT" => KeyTest::Compare(Comparator::Lt, next()),
            "LE" => KeyTest::Compare(Comparator::Le, next()),
            "GT" => KeyTest::Compare(Comparator::Gt, next()),
            "GE" => KeyTest::Compare(Comparator::Ge, next()),
            "BETWEEN" => KeyTest::Between(next(), next()),
            "BEGINS_WITH" => KeyTest::BeginsWith(next()),
            _ => KeyTest::Unindexable,
        };
        tests.push((name.clone(), test));
    }
    if tests.is_empty() {
        return Err(Error::validation("Conditions can be of length 1 or 2 only"));
    }
    Ok(tests)
}

/// `Expected`.
pub(super) fn expected(expected: &Expected, operator: Option<&str>) -> Result<Option<Condition>, Error> {
    let mut out = Vec::with_capacity(expected.len());
    for (name, input) in expected {
        check_name(name)?;
        out.push(expectation(name, input)?);
    }
    Ok((!out.is_empty()).then(|| joined(out, operator)))
}

fn expectation(name: &str, input: &ExpectedInput) -> Result<Condition, Error> {
    let wrong = |rule: &str| Err(Error::invalid_parameter(format_args!("{rule} for Attribute: {name}")));
    let list = input.attribute_value_list.as_ref();
    if list.is_some() && input.value.is_some() {
        return wrong("Value and AttributeValueList cannot be used together");
    }
    let value = input.value.as_ref().map(|value| value.valid().cloned()).transpose()?;
    let values = valid(list)?;
    if let Some(operator) = input.comparison_operator.as_deref() {
        if input.exists.is_some() {
            return wrong("Exists and ComparisonOperator cannot be used together");
        }
        if !matches!(operator, "NULL" | "NOT_NULL") && list.is_none() && value.is_none() {
            return wrong(&format!(
                "Value or AttributeValueList must be used with ComparisonOperator: {operator}"
            ));
        }
        let values = value.map_or(values, |value| vec![value]);
        check_values(operator, &values)?;
        check_kinds(operator, &values)?;
        check_bounds(operator, &values)?;
        return Ok(condition(name, operator, &values));
    }
    if list.is_some() {
        return wrong("AttributeValueList can only be used with a ComparisonOperator");
    }
    match (input.exists, value) {
        (Some(false), None) => Ok(condition(name, "NULL", &[])),
        (Some(false), Some(_)) => wrong("Value cannot be used when Exists is false"),
        (_, Some(value)) => Ok(condition(name, "EQ", &[value])),
        (None, None) => wrong("Value must be provided when Exists is null"),
        (Some(true), None) => wrong("Value must be provided when Exists is true"),
    }
}

/// `AttributeUpdates`.
pub(super) fn updates(updates: &Updates) -> Result<Update, Error> {
    let mut out = Update::legacy();
    for (name, input) in updates {
        check_name(name)?;
        let value = input.value.as_ref().map(|value| value.valid().cloned()).transpose()?;
        let action = input.action.as_deref().unwrap_or("PUT");
        let path = path(name);
        match (action, value) {
            ("DELETE", None) => out.remove(path),
            (_, None) => {
                return Err(Error::invalid_parameter(
                    "Only DELETE action is allowed when no attribute value is specified",
                ));
            }
            ("DELETE", Some(value)) => {
                if !matches!(value.kind(), Kind::Ss | Kind::Ns | Kind::Bs) {
                    return Err(Error::invalid_parameter(format_args!(
                        "DELETE action with value is not supported for the type {}",
                        value.kind().name()
                    )));
                }
                out.delete(path, value);
            }
            ("ADD", Some(value)) => {
                if !matches!(value.kind(), Kind::L | Kind::Ss | Kind::Ns | Kind::Bs | Kind::N) {
                    return Err(Error::invalid_parameter(format_args!(
                        "ADD action is not supported for the type {}",
                        value.kind().name()
                    )));
                }
                out.add(path, value);
            }
            (_, Some(value)) => out.set(path, value),
        }
    }
    Ok(out)
}

/// Constraints on `AttributeUpdates`.
pub(super) fn updates_constraints(updates: Option<&Updates>, constraints: &mut Constraints) {
    for (name, update) in updates.into_iter().flatten() {
        let at = format!("attributeUpdates.{name}.member.action");
        constraints.one_of(update.action.as_deref(), &at, &["ADD", "DELETE", "PUT"]);
    }
}

//! Whatever the text, parsing ends with an expression or an error.

use proptest::prelude::*;

use super::*;
use crate::value::{ItemView, encode_item};

fn names() -> IndexMap<String, String> {
    IndexMap::from([("#n".to_owned(), "n".to_owned())])
}

fn values() -> AttributeMap {
    let json = br#"{":v":{"N":"1"},":s":{"S":"x"},":l":{"L":[]},":ss":{"SS":["x"]}}"#;
    crate::wire::input(json).unwrap()
}

/// Words that make nearly valid expressions.
fn nearly() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "a",
        "b.c",
        "l[0]",
        "#n",
        "#m",
        ":v",
        ":s",
        ":l",
        ":ss",
        ":w",
        "=",
        "<>",
        "<",
        "<=",
        ">",
        ">=",
        "(",
        ")",
        ",",
        "+",
        "-",
        "AND",
        "OR",
        "NOT",
        "BETWEEN",
        "IN",
        "SET",
        "REMOVE",
        "ADD",
        "DELETE",
        "size",
        "contains(",
        "begins_with(",
        "attribute_exists(",
        "attribute_type(",
        "if_not_exists(",
        "list_append(",
        "[",
        "]",
        ".",
        "1",
        "name",
        "é",
        "\"",
    ]);
    proptest::collection::vec(word, 0..14).prop_map(|words| words.join(" "))
}

fn parse_all(text: &str) {
    let (names, values) = (names(), values());
    let item = encode_item(&values.attributes, 0);
    let placeholders = || Placeholders::new(Some(&names), Some(&values)).unwrap();
    if let Ok(condition) = Condition::parse("ConditionExpression", text, &mut placeholders()) {
        condition.holds(ItemView::new(&item).unwrap());
        condition.holds(ItemView::ABSENT);
    }
    if let Ok(update) = Update::parse(text, &mut placeholders()) {
        let _ = update.apply(&mut values.attributes.clone());
        update.projection().matches(ItemView::new(&item).unwrap());
    }
    let _ = Projection::parse(text, &mut placeholders());
    let _ = key_condition::read(text, &mut placeholders()).and_then(key_condition::tests);
}

proptest! {
    #[test]
    fn garbage_is_survived(text in "\\PC{0,80}") {
        parse_all(&text);
    }

    #[test]
    fn nearly_valid_text_is_survived(text in nearly()) {
        parse_all(&text);
    }
}

#[test]
fn depth_is_bounded() {
    for open in ["(", "NOT ", "size(", "if_not_exists(a,", "list_append(", "a.", "a[0]", "NOT ("] {
        parse_all(&open.repeat(4096 / open.len()));
        parse_all(&format!("SET a = {}", open.repeat(4000 / open.len())));
    }
}

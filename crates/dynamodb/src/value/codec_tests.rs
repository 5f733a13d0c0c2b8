//! Items there and back, looked into and damaged.

use proptest::prelude::*;

use super::*;
use crate::value::size_bytes;

fn number() -> impl Strategy<Value = Number> {
    ("-?[0-9]{1,20}", -60i32..60).prop_map(|(m, e)| Number::parse(&format!("{m}e{e}")).unwrap())
}

fn set<T: Ord + Clone + std::fmt::Debug>(member: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
    proptest::collection::vec(member, 1..4).prop_map(|mut members| {
        members.sort();
        members.dedup();
        members
    })
}

fn bytes() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn value() -> impl Strategy<Value = AttributeValue> {
    let scalar = prop_oneof![
        "\\PC{0,12}".prop_map(AttributeValue::S),
        number().prop_map(AttributeValue::N),
        bytes().prop_map(AttributeValue::B),
        any::<bool>().prop_map(AttributeValue::Bool),
        Just(AttributeValue::Null),
        set("[a-z]{0,5}").prop_map(AttributeValue::Ss),
        set(number()).prop_map(AttributeValue::Ns),
        set(bytes()).prop_map(AttributeValue::Bs),
    ];
    scalar.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(AttributeValue::L),
            proptest::collection::btree_map("[a-z]{0,3}", inner, 0..4).prop_map(AttributeValue::M),
        ]
    })
}

fn item() -> impl Strategy<Value = Attributes> {
    proptest::collection::btree_map("[a-z]{1,3}", value(), 0..6)
}

proptest! {
    #[test]
    fn items_round_trip(item in item()) {
        let size = size_bytes(&item);
        let encoded = encode_item(&item, size);
        prop_assert_eq!(&decode_item(&encoded).unwrap(), &item);
        let view = ItemView::new(&encoded).unwrap();
        prop_assert_eq!(view.size_bytes(), size);
        for (name, value) in &item {
            prop_assert_eq!(&view.get(name).unwrap().decode().unwrap(), value);
        }
        prop_assert!(view.get("UPPER").is_none());
    }

    #[test]
    fn values_are_equal_as_their_encodings_are(a in value(), b in value()) {
        let encode = |value: &AttributeValue| { let mut out = Vec::new(); encode_value(value, &mut out); out };
        prop_assert_eq!(ValueView::of(&encode(&a)).equals(ValueView::of(&encode(&b))), a == b);
        prop_assert!(ValueView::of(&encode(&a)).equals(ValueView::of(&encode(&a))));
    }

    #[test]
    fn what_is_written_can_be_read(item in item()) {
        let encoded = encode_item(&item, size_bytes(&item));
        let mut json = Vec::new();
        crate::wire::write::item(&mut json, ItemView::new(&encoded).unwrap());
        let read: crate::wire::AttributeMap = crate::wire::input(&json).unwrap();
        // Sets of text may hold "" here, and everything else is as valid as what comes in.
        prop_assert_eq!(&read.attributes, &item);
    }

    #[test]
    fn damage_never_panics(item in item(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut encoded = encode_item(&item, size_bytes(&item)).to_vec();
        let at = at.index(encoded.len());
        encoded[at] = byte;
        encoded.truncate(cut.index(encoded.len() + 1));
        let _ = decode_item(&encoded);
        if let Ok(view) = ItemView::new(&encoded) {
            crate::wire::write::item(&mut Vec::new(), view);
        }
    }
}

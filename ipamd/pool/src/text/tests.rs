//! What is written is read back; what is not text of ours is refused with a place.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::{Text, read, write};
use crate::cause::Cause;
use crate::ids::{Mac, SandboxKey};
use crate::machine::Pool;
use crate::time::Time;

fn survives<T: Text + PartialEq + std::fmt::Debug>(value: &T) -> String {
    let text = write(value);
    assert!(!text.contains('\n'), "{text:?} is one line");
    assert_eq!(read::<T>(&text).as_ref(), Ok(value), "{text}");
    text
}

#[test]
fn values_look_as_documented_and_come_back() {
    assert_eq!(
        survives(&SandboxKey::new("a\"b\\c\nd", "")),
        r#"{container_id:"a\"b\\c\u00000ad" ifname:""}"#
    );
    assert_eq!(survives(&Some(u64::MAX)), "18446744073709551615");
    assert_eq!(survives(&None::<u32>), "-");
    assert_eq!(survives(&vec![Some(0u32), None]), "[0 -]");
    assert_eq!(survives(&Duration::new(30, 5)), "(30 5)");
    assert_eq!(
        survives(&BTreeMap::from([(Mac([2, 0, 0, 0, 0, 9]), Ok::<(), u32>(()))])),
        "[02:00:00:00:00:09=Ok()]"
    );
    assert_eq!(
        survives(&Cause::TooSlow { waiting_for: crate::cause::GROWTH }).split('{').next(),
        Some("TooSlow")
    );
    survives(&BTreeSet::from(
        [("10.0.0.1".parse::<std::net::IpAddr>(), 1u32)].map(|(ip, n)| (Time::from_ms(1), (n, ip.is_ok()))),
    ));
    survives(&"fd00::/80".parse::<ipnetwork::IpNetwork>().unwrap());
}

#[test]
fn what_is_no_value_is_refused_with_its_place() {
    for (text, at) in [
        ("", 0),
        ("[1 x]", 3),
        ("[1 2", 4),
        ("[01]", 1),
        ("[+1]", 1),
        ("[4294967296]", 1),
        ("[1] 2", 4),
        ("[1}", 2),
    ] {
        assert_eq!(read::<Vec<u32>>(text).map_err(|e| e.at), Err(at), "{text:?}");
    }
    assert!(read::<BTreeSet<u32>>("[2 1]").is_err(), "the same set has one text");
    assert!(read::<BTreeMap<u32, u32>>("[1=1 1=2]").is_err());
    assert!(read::<Cause>("TooSlow{waiting_for:\"godot\"}").is_err());
    assert!(read::<Cause>("Nonsense").is_err());
    assert!(read::<BTreeSet<u32>>("[1 2]").is_ok());
    assert!(read::<BTreeSet<u32>>("[1 1]").is_err(), "a set has an element once");
    assert!(read::<Box<str>>("\"\\u000041\"").is_err(), "only what must be is escaped");
    assert!(read::<Box<str>>("\"a\nb\"").is_err());
    assert!(read::<Duration>("(1 1000000000)").is_err());
}

proptest! {
    #[test]
    fn any_string_comes_back(text in ".*") {
        survives(&Box::<str>::from(text));
    }

    #[test]
    fn any_text_is_a_pool_or_is_refused(text in "[A-Za-z0-9{}()\\[\\]:=\" .-]{0,200}") {
        if let Ok(pool) = read::<Pool>(&text) {
            survives(&pool);
        }
    }
}

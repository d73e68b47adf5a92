use super::*;
use crate::cni::error::INCOMPATIBLE_VERSION;
use proptest::prelude::*;
use serde_json::json;

fn conf(extra: &Value) -> Result<NetConf, Refused> {
    let mut conf = json!({ "cniVersion": "1.1.0", "name": "aws-cni", "type": "aws-cni" });
    if let (Some(conf), Some(extra)) = (conf.as_object_mut(), extra.as_object()) {
        conf.extend(extra.clone());
    }
    parse(conf.to_string().as_bytes(), Verb::Add)
}

fn code(extra: &Value) -> u32 {
    conf(extra).expect_err("refused").error.code
}

/// Scenario H02.
#[test]
fn defaults_are_the_incumbents() {
    let conf = conf(&json!({ "cniVersion": "0.4.0" })).expect("accepted");
    assert_eq!((conf.veth_prefix.as_str(), conf.mtu), ("eni", 9001));
    assert_eq!(conf.log_file, "/var/log/aws-routed-eni/plugin.log");
    assert_eq!(conf.deadlines, Deadlines::default());
    let Deadlines { add, del, connect, status: _, grace } = conf.deadlines;
    assert_eq!(
        [add, del, connect, grace].map(|d| d.as_secs()),
        [75, 20, 60, 60],
        "the daemon's settings too"
    );
    assert_eq!(conf.valid_attachments, None);
}

/// Scenario H02.
#[test]
fn veth_prefix_at_most_four_characters() {
    assert_eq!(conf(&json!({ "vethPrefix": "abcd", "mtu": "1500" })).map(|c| c.mtu), Ok(1500));
    for odd in ["e-_.", "a*", "a\"b", "!"] {
        assert_eq!(conf(&json!({ "vethPrefix": odd })).map(|c| c.veth_prefix), Ok(odd.to_owned()));
    }
    for bad in ["abcde", "eth", "lo", "vlan", "a/b", "a:b", "a%d", "a b", "é"] {
        assert_eq!(code(&json!({ "vethPrefix": bad })), CONFIG, "{bad:?}");
    }
}

/// C07, its rows first: what is no MTU between 576 and 9001 is the default.
#[test]
fn mtu_out_of_range_is_the_default() {
    let table = [
        (json!("abc"), 9001),
        (json!("500"), 9001),
        (json!("10000"), 9001),
        (json!("8000"), 8000),
        (json!("1500"), 1500),
        (json!(1500), 1500),
        (json!("575"), 9001),
        (json!("9002"), 9001),
        (json!("x"), 9001),
        (json!(-1), 9001),
        (json!(""), 9001),
        (json!("4294967872"), 9001),
        (Value::Null, 9001),
    ];
    for (given, wanted) in table {
        assert_eq!(conf(&json!({ "mtu": given })).map(|c| c.mtu), Ok(wanted), "{given}");
    }
}

/// P-10, P-11, P-12, P-13.
#[test]
fn codes_as_specified() {
    for stdin in
        ["", "{", "[]", "7", r#"{"cniVersion":7}"#, r#"{"cniVersion":"1.0.0","name":"n","vethPrefix":7}"#]
    {
        assert_eq!(parse(stdin.as_bytes(), Verb::Add).expect_err("refused").error.code, DECODE, "{stdin:?}");
    }
    assert_eq!(code(&json!({ "cniVersion": null })), INCOMPATIBLE_VERSION);
    assert_eq!(code(&json!({ "cniVersion": "0.2.0" })), INCOMPATIBLE_VERSION);
    for name in [json!(null), json!(""), json!("a/b"), json!("-a")] {
        assert_eq!(code(&json!({ "name": name })), CONFIG, "{name}");
    }
}

/// K-01, G-01.
#[test]
fn verbs_need_their_version() {
    for (verb, version, accepted) in [
        (Verb::Check, "0.3.1", false),
        (Verb::Check, "0.4.0", true),
        (Verb::Gc, "1.0.0", false),
        (Verb::Gc, "1.1.0", true),
        (Verb::Status, "1.0.0", false),
        (Verb::Status, "1.1.0", true),
        (Verb::Del, "0.3.0", true),
    ] {
        let stdin = json!({ "cniVersion": version, "name": "n" }).to_string();
        let outcome = parse(stdin.as_bytes(), verb);
        assert_eq!(outcome.is_ok(), accepted, "{verb:?} {version}");
        if let Err(refused) = outcome {
            assert_eq!((refused.error.code, refused.version.as_str()), (INCOMPATIBLE_VERSION, version));
        }
    }
}

/// G-07, P-15.
#[test]
fn attachments_absent_is_not_empty() {
    let read = |verb: Verb, extra: &Value| {
        let mut conf = json!({ "cniVersion": "1.1.0", "name": "aws-cni" });
        conf.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        parse(conf.to_string().as_bytes(), verb).map(|conf| conf.valid_attachments.map(|v| v.len()))
    };
    let valid = |extra: &Value| read(Verb::Gc, extra).expect("accepted");
    assert_eq!(valid(&json!({})), None);
    assert_eq!(valid(&json!({ "cni.dev/valid-attachments": null })), None);
    assert_eq!(valid(&json!({ "cni.dev/valid-attachments": [] })), Some(0));
    let one = json!([{ "containerID": "c", "ifname": "eth0" }]);
    assert_eq!(valid(&json!({ "cni.dev/attachments": one })), Some(1));
    assert_eq!(valid(&json!({ "cni.dev/attachments": one, "cni.dev/valid-attachments": [] })), Some(0));
    for odd in [json!("x"), json!([1]), json!([{ "containerID": "c" }])] {
        let extra = json!({ "cni.dev/valid-attachments": odd });
        assert_eq!(read(Verb::Gc, &extra).expect_err("refused").error.code, DECODE, "{odd}");
        assert_eq!(read(Verb::Add, &extra), Ok(None), "another verb does not look at it: {odd}");
    }
}

/// P-14, D-04.
#[test]
fn foreign_keys_and_odd_prev_results_are_taken() {
    let conf = conf(&json!({ "anything": [1], "runtimeConfig": { "x": 1 }, "prevResult": "odd" }))
        .expect("accepted");
    assert_eq!((conf.prev_result, conf.prev_result_malformed), (None, true));
}

proptest! {
    #[test]
    fn any_stdin_is_answered(stdin in ".{0,200}") {
        if let Err(refused) = parse(stdin.as_bytes(), Verb::Add) {
            prop_assert!(matches!(refused.error.code, DECODE | CONFIG | INCOMPATIBLE_VERSION));
        }
    }
}

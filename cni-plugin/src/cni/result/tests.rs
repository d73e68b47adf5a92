use super::*;
use proptest::prelude::*;

fn made() -> Made {
    let end = |name: &str, sandbox: &str| Interface {
        name: name.into(),
        mac: format!("02:00:00:00:00:{}", name.len()),
        mtu: 9001,
        sandbox: sandbox.into(),
    };
    Made {
        host: end("enicc21c2d7785", ""),
        pod: end("eth0", "/run/netns/p"),
        addresses: vec![[10, 0, 1, 15].into()],
        hidden: None,
    }
}

fn rendered(text: &str, previous: Option<&Value>) -> Value {
    let spoken = version::parse(text).expect("a version");
    serde_json::from_str(&render(&made(), spoken, text, previous)).expect("JSON")
}

///
#[test]
fn shape_of_every_version() {
    for text in version::SUPPORTED {
        let result = rendered(text, None);
        assert_eq!(result["cniVersion"], text);
        assert_eq!(result["interfaces"][1]["sandbox"], "/run/netns/p");
        assert_eq!(result["interfaces"][0].get("sandbox"), None);
        assert_eq!(result["ips"][0]["address"], "10.0.1.15/32");
        assert_eq!(result["ips"][0]["interface"], 1);
        let old = ["0.3.0", "0.3.1", "0.4.0"].contains(&text);
        assert_eq!(result["ips"][0].get("version"), old.then(|| json!("4")).as_ref(), "{text}");
        assert_eq!(result["interfaces"][1].get("mtu").is_some(), text == "1.1.0", "{text}");
        assert_eq!((result.get("dns"), result.get("routes")), (None, None));
    }
}

///
#[test]
fn previous_result_stays_and_indexes_count_on() {
    let previous = json!({
        "cniVersion": "1.0.0", "interfaces": [{ "name": "x", "sandbox": "/n" }],
        "ips": [{ "address": "10.9.9.9/24", "interface": 0 }], "dns": { "nameservers": ["10.0.0.2"] }, "other": 1,
    });
    let result = rendered("1.0.0", Some(&previous));
    assert_eq!(result["interfaces"].as_array().map(Vec::len), Some(3));
    assert_eq!(result["ips"][0], previous["ips"][0]);
    assert_eq!(result["ips"][1]["interface"], 2);
    assert_eq!((&result["dns"], &result["other"]), (&previous["dns"], &previous["other"]));
}

#[test]
fn earlier_reads_our_own_result() {
    let found = earlier(&rendered("1.1.0", None), "eth0");
    let named = |name: &str, mac: &str| Named { name: name.into(), mac: Some(mac.into()) };
    assert_eq!(found.hosts, [named("enicc21c2d7785", "02:00:00:00:00:14")]);
    assert_eq!(found.pod, Some(named("eth0", "02:00:00:00:00:4")));
    assert_eq!(found.sandbox, "/run/netns/p");
    assert_eq!(found.addresses, [IpAddr::from([10, 0, 1, 15])]);
    assert_eq!(earlier(&rendered("1.1.0", None), "eth1").addresses, Vec::<IpAddr>::new());
}

/// Layout compat: as the incumbent's own, which counts `(interfaces - 1) / 2` pairs and reads table and device.
#[test]
fn hidden_fields_are_the_incumbents() {
    let hidden = Hidden { table: 3, device: 2, name: "dummycc21c2d7785".into() };
    let made = Made { hidden: Some(hidden), ..made() };
    let result: Value = serde_json::from_str(&render(&made, version::WITH_GC, "1.1.0", None)).expect("JSON");
    let interfaces = result["interfaces"].as_array().expect("a list");
    assert_eq!(interfaces.len(), 3);
    assert_eq!((&interfaces[1]["name"], &interfaces[1]["mac"]), (&json!("eth0"), &json!("3")));
    assert_eq!(interfaces[2], json!({ "name": "dummycc21c2d7785", "mac": "0", "sandbox": "2" }));
    assert_eq!(result["ips"][0]["interface"], 1);
    let found = earlier(&result, "eth0");
    assert_eq!(found.pod, Some(Named { name: "eth0".into(), mac: None }));
    assert_eq!(found.hosts.len(), 1);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        "[a-z0-9./:]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("interfaces|ips|name|sandbox|address|interface|mac", inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    /// D-04.
    #[test]
    fn any_previous_result_is_survived(previous in any_json()) {
        let found = earlier(&previous, "eth0");
        prop_assert_eq!(found.sandbox.is_empty(), found.pod.is_none());
        let again: Value = serde_json::from_str(&render(&made(), version::WITH_GC, "1.1.0", Some(&previous))).expect("JSON");
        prop_assert!(earlier(&again, "eth0").pod.is_some());
    }
}

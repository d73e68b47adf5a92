use std::collections::BTreeMap;

use super::eni::Eni;
use super::network::{Layout, RandomizeSnat};
use super::observe::{LogLevel, LogTarget};
use super::*;
use crate::finding::Severity;
use crate::knob::OnMistake;

pub(super) type Vars<'a> = &'a [(&'a str, &'a str)];

pub(super) fn parse(vars: Vars<'_>) -> Result<Parsed, Mistakes> {
    Settings::parse(&vars.iter().copied().collect::<BTreeMap<_, _>>())
}

pub(super) fn settings(vars: Vars<'_>) -> Settings {
    parse(vars).unwrap_or_else(|mistakes| panic!("{vars:?}: {mistakes}")).settings
}

/// Exit code and the variables at fault, each once.
pub(super) fn refusal(vars: Vars<'_>) -> Option<(u8, Vec<String>)> {
    let mistakes = parse(vars).err()?;
    let mut names: Vec<String> = mistakes.mistakes.iter().map(|m| m.variable.clone()).collect();
    names.dedup();
    Some((mistakes.exit_code(), names))
}

pub(super) fn complains_about(vars: Vars<'_>, variable: &str) -> Option<Severity> {
    let findings = parse(vars).unwrap_or_else(|mistakes| panic!("{vars:?}: {mistakes}")).findings;
    findings.iter().find(|finding| finding.variable == variable).map(|finding| finding.severity)
}

#[test]
fn nothing_set_gives_the_documented_defaults() {
    let Parsed { settings, findings } = parse(&[]).expect("defaults are valid");
    assert_eq!(findings, []);
    assert_eq!(settings.warm, Warm::DemandDriven);
    assert_eq!(
        settings.eni,
        Eni {
            prefix_delegation: false,
            max_eni: None,
            cooldown: Duration::from_secs(30),
            manage_untagged: true,
            additional_tags: BTreeMap::new(),
            cluster_name: None,
            subnet_discovery: true,
            leak_cleanup: true,
            provisioning: true,
            ec2_endpoint: None,
            ec2_timeout: Duration::from_secs(10),
            subnet_floor: 16,
            ec2_nodes: None,
            ec2_share: 100,
            leak_dry_run: false,
            leak_proof: Duration::from_secs(600),
            max_pods: None,
        }
    );
    assert_eq!((settings.network.eni_mtu, settings.network.pod_mtu), (9001, 9001));
    assert_eq!(settings.network.veth_prefix, "eni");
    assert_eq!(settings.network.randomize_snat, RandomizeSnat::Prng);
    assert!(settings.network.node_port_support && !settings.network.external_snat);
    assert_eq!(settings.network.layout, Layout::Constant);
    assert_eq!(settings.observe.log_level, LogLevel::Debug);
    assert_eq!(settings.observe.log.to_text(), "/host/var/log/aws-routed-eni/ipamd.log");
    assert_eq!(settings.observe.plugin_log.to_text(), "/var/log/aws-routed-eni/plugin.log");
    assert_eq!(settings.paths.cni_conf_dir.to_str(), Some("/host/etc/cni/net.d"));
    assert_eq!(settings.paths.cni_bin_dir.to_str(), Some("/host/opt/cni/bin"));
    assert_eq!(settings.paths.backing_store.to_str(), Some("/var/run/aws-node/ipam.json"));
    assert_eq!(settings.paths.ledger_dir.to_str(), Some("/var/run/aws-node/podwire"));
    assert_eq!(settings.deadlines.add, Duration::from_secs(75));
    assert_eq!(settings.deadlines.del, Duration::from_secs(20));
    assert_eq!(settings.deadlines.connect_retry, Duration::from_secs(60));
    assert_eq!(settings.deadlines.status_grace, Duration::from_secs(60));
}

/// Every knob's default is a value the knob takes itself: writing all defaults out changes nothing.
#[test]
fn defaults_written_out_change_nothing_but_the_warm_rule() {
    let all: BTreeMap<&str, &str> =
        knobs().map(|knob| (knob.name, knob.default)).filter(|(_, default)| !default.is_empty()).collect();
    let written = Settings::parse(&all).expect("defaults are valid").settings;
    let expected = settings(&[]);
    assert_eq!(written.warm, Warm::Targets { ip: 0, minimum: 0, eni: 1, prefix: 0 });
    assert_eq!(Settings { warm: Warm::DemandDriven, ..written }, expected);
}

#[test]
fn every_knob_is_named_once_and_documented() {
    let mut names: Vec<&str> = knobs().map(|knob| knob.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "a knob is listed twice");
    for knob in knobs() {
        assert!(!knob.doc.is_empty(), "{}", knob.name);
        assert_eq!(knob.name.starts_with("PODWIRE_"), knob.on_mistake == OnMistake::Strict, "{}", knob.name);
    }
}

/// C06: MTUs outside 576..=9001 or that are no numbers exit with 1.
#[test]
fn mtu_is_checked_as_the_incumbent_does() {
    for (mtu, ok) in
        [("true", false), ("abc", false), ("5000", true), ("3000", true), ("10000", false), ("500", false)]
    {
        for name in ["AWS_VPC_ENI_MTU", "POD_MTU"] {
            let expected = (!ok).then(|| (1, vec![name.to_owned()]));
            assert_eq!(refusal(&[(name, mtu)]), expected, "{name}={mtu}");
        }
    }
    let both = settings(&[("AWS_VPC_ENI_MTU", "5000")]).network;
    assert_eq!((both.eni_mtu, both.pod_mtu), (5000, 5000));
    let own = settings(&[("AWS_VPC_ENI_MTU", "5000"), ("POD_MTU", "1500")]).network;
    assert_eq!((own.eni_mtu, own.pod_mtu), (5000, 1500));
    assert!(refusal(&[("AWS_VPC_ENI_MTU", "")]).is_some(), "an empty text is no number");
}

/// C08: words of Go's ParseBool and nothing else.
#[test]
fn flags_take_the_words_of_go_alone() {
    const NAME: &str = "AWS_VPC_CNI_NODE_PORT_SUPPORT";
    for word in ["1", "t", "T", "TRUE", "true", "True"] {
        assert!(settings(&[(NAME, word)]).network.node_port_support, "{word}");
    }
    for word in ["0", "f", "F", "FALSE", "false", "False"] {
        assert!(!settings(&[(NAME, word)]).network.node_port_support, "{word}");
    }
    for word in ["TrUe", "yes", "no", " false"] {
        assert!(settings(&[(NAME, word)]).network.node_port_support, "{word} means the default");
        assert_eq!(complains_about(&[(NAME, word)], NAME), Some(Severity::Error), "{word}");
    }
    assert_eq!(refusal(&[("IP_COOLDOWN_PERIOD", "2O")]).map(|r| r.0), Some(1), "letter O is no digit");
    assert_eq!(settings(&[("IP_COOLDOWN_PERIOD", "20")]).eni.cooldown, Duration::from_secs(20));
    assert_eq!(refusal(&[("IP_COOLDOWN_PERIOD", "-1")]).map(|r| r.0), Some(1));
    assert_eq!(settings(&[("IP_COOLDOWN_PERIOD", "0")]).eni.cooldown, Duration::ZERO);
}

/// Several groups read this one; its finding is told once.
#[test]
fn finding_is_told_once() {
    let vars = [("ENABLE_PREFIX_DELEGATION", "yes"), ("WARM_IP_TARGET", "1"), ("MINIMUM_IP_TARGET", "1")];
    let findings = parse(&vars).expect("a finding is no mistake").findings;
    let names: Vec<&str> = findings.iter().map(|finding| finding.variable).collect();
    assert_eq!(names, ["ENABLE_PREFIX_DELEGATION"]);
}

/// C10: what switches the clean-up of leaked ENIs off, and where the checkpoint lies.
#[test]
fn provisioning_and_cleanup_follow_their_switches() {
    assert!(!settings(&[("DISABLE_LEAKED_ENI_CLEANUP", "true")]).eni.leak_cleanup);
    assert!(settings(&[("DISABLE_LEAKED_ENI_CLEANUP", "false")]).eni.leak_cleanup);
    for name in ["ENABLE_IMDS_ONLY_MODE", "DISABLE_NETWORK_RESOURCE_PROVISIONING"] {
        let vars = BTreeMap::from([(name, "true")]);
        let mut reader = Reader::new(&vars);
        let eni = Eni::read(&mut reader);
        assert!(!eni.provisioning && !eni.leak_cleanup, "{name}");
        assert_eq!(refusal(&[(name, "true")]), Some((2, vec![name.to_owned()])));
    }
    let custom = settings(&[("AWS_VPC_K8S_CNI_BACKING_STORE", "/custom/path/ipam.json")]);
    assert_eq!(custom.paths.backing_store.to_str(), Some("/custom/path/ipam.json"));
}

#[test]
fn veth_prefix_is_checked_as_the_incumbent_does() {
    for bad in ["abcde", "eth", "lo", "vlan", "a/b", "a:b", "a%d", "a b", "ü"] {
        assert_eq!(
            refusal(&[("AWS_VPC_K8S_CNI_VETHPREFIX", bad)]),
            Some((1, vec!["AWS_VPC_K8S_CNI_VETHPREFIX".to_owned()])),
            "{bad}"
        );
    }
    for (value, prefix) in [("abcd", "abcd"), ("e", "e"), ("p-_.", "p-_."), ("a*", "a*"), ("", "eni")] {
        assert_eq!(settings(&[("AWS_VPC_K8S_CNI_VETHPREFIX", value)]).network.veth_prefix, prefix);
    }
}

#[test]
fn plugin_never_logs_to_stdout() {
    let log = |value| settings(&[("AWS_VPC_K8S_PLUGIN_LOG_FILE", value)]).observe.plugin_log;
    assert_eq!(refusal(&[("AWS_VPC_K8S_PLUGIN_LOG_FILE", "stdout")]).map(|r| r.0), Some(1));
    assert_eq!(log(""), LogTarget::Stderr);
    assert_eq!(log("stderr"), LogTarget::Stderr);
    assert_eq!(log("/x"), LogTarget::File("/x".into()));
    let daemon = |value| settings(&[("AWS_VPC_K8S_CNI_LOG_FILE", value)]).observe.log;
    assert_eq!(daemon("stdout"), LogTarget::Stdout);
    assert_eq!(daemon("").to_text(), "/host/var/log/aws-routed-eni/ipamd.log");
}

#[test]
fn log_levels_are_taken_in_any_case() {
    for (text, level) in [("WARN", LogLevel::Warn), ("Info", LogLevel::Info), ("loud", LogLevel::Debug)] {
        assert_eq!(settings(&[("AWS_VPC_K8S_CNI_LOGLEVEL", text)]).observe.log_level, level);
    }
}

/// I12's rules, on the variable we use: trimmed, in network form, wrong and IPv6 items left out one by one.
#[test]
fn cidrs_are_taken_one_by_one() {
    const NAME: &str = "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS";
    for (text, expected) in [
        ("", vec![]),
        ("10.0.0.0/32", vec!["10.0.0.0/32"]),
        ("2000::1/128", vec![]),
        ("10.0.0.0", vec![]),
        ("10.0.0.0/32, 10.0.0.1/32, 2000::1/128", vec!["10.0.0.0/32", "10.0.0.1/32"]),
        ("10.0.0.0/32,abcd", vec!["10.0.0.0/32"]),
        ("10.1.2.3/8,0.0.0.0/0", vec!["10.0.0.0/8", "0.0.0.0/0"]),
        ("10.0.0.0/33,10.0.0.0/+8,010.0.0.0/8", vec![]),
    ] {
        let cidrs: Vec<String> =
            settings(&[(NAME, text)]).network.exclude_snat_cidrs.iter().map(ToString::to_string).collect();
        assert_eq!(cidrs, expected, "{text}");
    }
    let external = [(NAME, "10.0.0.0/8"), ("AWS_VPC_K8S_CNI_EXTERNALSNAT", "true")];
    assert!(settings(&external).network.exclude_snat_cidrs.is_empty());
    assert_eq!(complains_about(&external, NAME), Some(Severity::Warn));
}

#[test]
fn tags_are_a_json_object_without_reserved_keys() {
    const NAME: &str = "ADDITIONAL_ENI_TAGS";
    let tags = |text| {
        let tags = settings(&[(NAME, text)]).eni.additional_tags;
        tags.into_iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(tags("{}"), "");
    assert_eq!(tags(r#"{"b":"2","a":"1","a":"3"}"#), "a=3 b=2", "the last of a repeated key wins");
    assert_eq!(tags(r#"{"x.k8s.amazonaws.com/y":"1","ok":"2"}"#), "ok=2");
    for bad in ["{", "[]", r#"{"a":1}"#, "nonsense"] {
        assert_eq!(tags(bad), "", "{bad}");
        assert_eq!(complains_about(&[(NAME, bad)], NAME), Some(Severity::Error), "{bad}");
    }
}

#[test]
fn endpoint_counts_for_ec2_when_it_is_a_url() {
    const NAME: &str = "AWS_EC2_ENDPOINT";
    assert_eq!(
        settings(&[(NAME, "http://10.0.0.2:8080")]).eni.ec2_endpoint.as_deref(),
        Some("http://10.0.0.2:8080")
    );
    for bad in ["ec2.example", "ftp://x", "https://", "http:///x"] {
        assert_eq!(settings(&[(NAME, bad)]).eni.ec2_endpoint, None, "{bad}");
        assert_eq!(complains_about(&[(NAME, bad)], NAME), Some(Severity::Error), "{bad}");
    }
}

#[test]
fn ec2_timeout_prefers_our_own_variable() {
    let timeout = |vars| settings(vars).eni.ec2_timeout;
    assert_eq!(timeout(&[("HTTP_TIMEOUT", "25")]), Duration::from_secs(25));
    assert_eq!(timeout(&[("HTTP_TIMEOUT", "9")]), Duration::from_secs(10), "less than 10 is ignored");
    assert_eq!(
        timeout(&[("HTTP_TIMEOUT", "25"), ("PODWIRE_EC2_TIMEOUT_MS", "400")]),
        Duration::from_millis(400)
    );
}

/// Design §7: every mistake of ours at once, exit 2, whatever else is wrong.
#[test]
fn podwire_mistakes_are_listed_all_at_once() {
    let all: [(&str, &str); 6] = [
        ("PODWIRE_LAYOUT", "compatible"),
        ("PODWIRE_SUBNET_FLOOR", "many"),
        ("PODWIRE_EC2_TIMEOUT_MS", "0"),
        ("PODWIRE_LEDGER_DIR", "relative/dir"),
        ("PODWIRE_ADD_DEADLINE_MS", "-1"),
        ("IP_COOLDOWN_PERIOD", "soon"),
    ];
    let (code, mut names) = refusal(&all).expect("mistakes");
    names.sort();
    let mut expected: Vec<String> = all.iter().map(|(name, _)| (*name).to_owned()).collect();
    expected.sort();
    assert_eq!((code, names), (2, expected));
    let text = parse(&all).expect_err("mistakes").to_string();
    assert!(
        text.contains("PODWIRE_SUBNET_FLOOR: \"many\" is no whole number; correct or remove it"),
        "{text}"
    );
    assert_eq!(refusal(&[("PODWIRE_LAYOUT", "")]), None, "empty is not set");
    let layout = |value| parse(&[("PODWIRE_LAYOUT", value)]).map(|parsed| parsed.settings.network.layout);
    assert_eq!(layout("compat").ok(), Some(Layout::Compat));
    assert_eq!(layout("constant").ok(), Some(Layout::Constant));
}

#[test]
fn misspelled_podwire_names_are_mistakes() {
    let mistakes =
        unknown_names(["PATH", "PODWIRE_SUBNET_FLOR", "PODWIRE_LAYOUT", "PODWIRE_", "PODWIRE_XYZ"]);
    let texts: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "PODWIRE_SUBNET_FLOR: there is no such setting; did you mean PODWIRE_SUBNET_FLOOR?",
            "PODWIRE_: there is no such setting; remove it",
            "PODWIRE_XYZ: there is no such setting; remove it",
        ]
    );
}

/// A Service `podwire-metrics` beside the daemon, and one called `podwire`: kubelet tells each container of the namespace.
#[test]
fn what_kubelet_says_of_a_service_is_no_mistake() {
    let of_services = [
        "PODWIRE_METRICS_SERVICE_HOST",
        "PODWIRE_METRICS_SERVICE_PORT",
        "PODWIRE_METRICS_SERVICE_PORT_HTTP_METRICS",
        "PODWIRE_METRICS_PORT",
        "PODWIRE_METRICS_PORT_61678_TCP",
        "PODWIRE_METRICS_PORT_61678_TCP_PROTO",
        "PODWIRE_METRICS_PORT_61678_UDP_PORT",
        "PODWIRE_METRICS_PORT_61678_SCTP_ADDR",
        "PODWIRE_SERVICE_HOST",
        "PODWIRE_PORT_80_TCP_ADDR",
    ];
    assert_eq!(unknown_names(of_services), []);
    let wrong =
        ["PODWIRE_METRICS_PORTS", "PODWIRE_METRICS_PORT_X_TCP", "PODWIRE_METRICS_PORT_80_TCP_ADDRESS"];
    assert_eq!(unknown_names(of_services.into_iter().chain(wrong)).len(), wrong.len());
    assert_eq!(unknown_names(["PODWIRE_METRICS_PORT"]).len(), 1, "no Service of that name");
    for knob in knobs() {
        let ends = (0..knob.name.len()).filter_map(|at| knob.name.get(at..));
        assert!(!ends.into_iter().any(is_service_link), "a Service could set {}", knob.name);
    }
}

/// The incumbent's own manifest starts podwire: config/master/aws-k8s-cni.yaml (incumbent-behaviour §1.2).
#[test]
fn the_incumbents_manifest_is_accepted() {
    let Parsed { settings, findings } = parse(&[
        ("ADDITIONAL_ENI_TAGS", "{}"),
        ("AWS_VPC_CNI_NODE_PORT_SUPPORT", "true"),
        ("AWS_VPC_ENI_MTU", "9001"),
        ("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", "false"),
        ("AWS_VPC_K8S_CNI_EXTERNALSNAT", "false"),
        ("AWS_VPC_K8S_CNI_LOGLEVEL", "DEBUG"),
        ("AWS_VPC_K8S_CNI_LOG_FILE", "/host/var/log/aws-routed-eni/ipamd.log"),
        ("AWS_VPC_K8S_CNI_RANDOMIZESNAT", "prng"),
        ("AWS_VPC_K8S_CNI_VETHPREFIX", "eni"),
        ("AWS_VPC_K8S_PLUGIN_LOG_FILE", "/var/log/aws-routed-eni/plugin.log"),
        ("AWS_VPC_K8S_PLUGIN_LOG_LEVEL", "DEBUG"),
        ("DISABLE_INTROSPECTION", "false"),
        ("DISABLE_METRICS", "false"),
        ("DISABLE_NETWORK_RESOURCE_PROVISIONING", "false"),
        ("ENABLE_IMDS_ONLY_MODE", "false"),
        ("ENABLE_IPv4", "true"),
        ("ENABLE_IPv6", "false"),
        ("ENABLE_MULTI_NIC", "false"),
        ("ENABLE_POD_ENI", "false"),
        ("ENABLE_PREFIX_DELEGATION", "false"),
        ("ENABLE_SUBNET_DISCOVERY", "true"),
        ("NETWORK_POLICY_ENFORCING_MODE", "standard"),
        ("VPC_CNI_VERSION", "v1.23.1"),
        ("WARM_ENI_TARGET", "1"),
        ("WARM_PREFIX_TARGET", "1"),
    ])
    .expect("the incumbent's manifest is valid");
    assert_eq!(settings.warm, Warm::Targets { ip: 0, minimum: 0, eni: 1, prefix: 1 });
    let warned: Vec<&str> = findings.iter().map(|finding| finding.variable).collect();
    let unserved = ["DISABLE_METRICS", "DISABLE_INTROSPECTION"];
    let expected =
        ["NETWORK_POLICY_ENFORCING_MODE"].into_iter().chain(unserved).chain(["WARM_PREFIX_TARGET"]);
    assert_eq!(warned, expected.collect::<Vec<_>>());
}

proptest::proptest! {
    /// Any texts in any variables: an answer, never a panic; and mistakes always name a variable that is set.
    #[test]
    fn any_texts_give_an_answer(values in proptest::collection::vec(".{0,12}|-?[0-9]{1,20}|[a-z/:.{}\",]{0,16}", 80)) {
        let vars: BTreeMap<&str, &str> =
            knobs().map(|knob| knob.name).zip(values.iter().map(String::as_str)).collect();
        match Settings::parse(&vars) {
            Ok(parsed) => {
                let network = parsed.settings.network;
                proptest::prop_assert!((576..=9001).contains(&network.pod_mtu));
                proptest::prop_assert!((1..=4).contains(&network.veth_prefix.len()));
            }
            Err(mistakes) => proptest::prop_assert!(!mistakes.mistakes.is_empty()),
        }
    }
}

use super::*;
use proptest::prelude::*;

const ADD: [(&str, &str); 4] = [
    ("CNI_COMMAND", "ADD"),
    ("CNI_CONTAINERID", "c1"),
    ("CNI_NETNS", "/run/netns/p"),
    ("CNI_IFNAME", "eth0"),
];

fn add_with(key: &str, value: &str) -> Environment {
    let mut env = Environment::from(ADD);
    env.0.insert(key.to_owned(), value.to_owned());
    env
}

fn code_and_text(env: &Environment) -> (u32, String) {
    let error = asked(env).expect_err("refused");
    (error.code, error.msg)
}

/// P-04, P-20.
#[test]
fn command_missing_is_an_introduction_only_by_hand() {
    assert_eq!(asked(&Environment::default()), Ok(Asked::Introduction));
    let (code, text) = code_and_text(&Environment::from([("CNI_CONTAINERID", "c1")]));
    assert_eq!(code, ENVIRONMENT);
    assert!(text.contains("CNI_COMMAND"), "{text}");
    assert_eq!(code_and_text(&Environment::from([("CNI_COMMAND", "EXPLODE")])).0, ENVIRONMENT);
}

/// P-05, P-06.
#[test]
fn every_missing_variable_is_named() {
    let (code, text) = code_and_text(&Environment::from([("CNI_COMMAND", "ADD"), ("CNI_IFNAME", "")]));
    assert_eq!(code, ENVIRONMENT);
    for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"] {
        assert!(text.contains(name), "{text}");
    }
    let (_, text) = code_and_text(&Environment::from([("CNI_COMMAND", "DEL"), ("CNI_IFNAME", "eth0")]));
    assert!(text.contains("CNI_CONTAINERID") && !text.contains("CNI_NETNS"), "{text}");
}

/// P-05: what is missing hides nothing that is wrong beside it.
#[test]
fn missing_and_unusable_variables_are_named_together() {
    for (command, pairs, named) in [
        (
            "ADD",
            [("CNI_IFNAME", "a/b"), ("CNI_ARGS", "X=y")],
            "CNI_CONTAINERID CNI_NETNS CNI_IFNAME CNI_ARGS",
        ),
        ("CHECK", [("CNI_CONTAINERID", "../x"), ("CNI_IFNAME", "eth0")], "CNI_CONTAINERID CNI_NETNS"),
        ("DEL", [("CNI_IFNAME", ".."), ("CNI_NETNS", "")], "CNI_CONTAINERID CNI_IFNAME"),
    ] {
        let [one, other] = pairs;
        let (code, text) = code_and_text(&Environment::from([("CNI_COMMAND", command), one, other]));
        assert_eq!(code, ENVIRONMENT);
        assert!(named.split(' ').all(|name| text.contains(name)), "{command}: {text}");
    }
}

/// P-07, P-08.
#[test]
fn every_unusable_variable_is_named() {
    let mut env = add_with("CNI_CONTAINERID", "../../etc");
    env.0.insert("CNI_IFNAME".into(), "much-too-long-name".into());
    let (code, text) = code_and_text(&env);
    assert_eq!(code, ENVIRONMENT);
    assert!(text.contains("CNI_CONTAINERID") && text.contains("CNI_IFNAME"), "{text}");
    for ifname in [".", "..", "a/b", "a:b", "a b", "a\u{a0}b"] {
        assert!(asked(&add_with("CNI_IFNAME", ifname)).is_err(), "{ifname:?}");
    }
}

/// P-06, G-01, T-07.
#[test]
fn verbs_without_container_take_no_notice_of_container_variables() {
    for verb in ["GC", "STATUS", "VERSION"] {
        let env = Environment::from([("CNI_COMMAND", verb), ("CNI_CONTAINERID", ""), ("CNI_IFNAME", "a/b")]);
        assert!(asked(&env).is_ok(), "{verb}");
    }
}

/// P-16.
#[test]
fn args_as_kubernetes_runtimes_send_them() {
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p-0;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u;X=y";
    let Ok(Asked::Verb(Verb::Add, invocation)) = asked(&add_with("CNI_ARGS", args)) else {
        panic!("refused");
    };
    assert_eq!(invocation.pod, PodArgs { namespace: "ns".into(), name: "p-0".into(), uid: "u".into() });
    for bad in ["X=y", "K8S_POD_NAME", "IgnoreUnknown=0;X=y", "K8S_POD_NAME=a/b", "K8S_POD_NAME=a\nb"] {
        assert!(asked(&add_with("CNI_ARGS", bad)).is_err(), "{bad:?}");
    }
}

/// D-05.
#[test]
fn del_does_without_unusable_args() {
    let env = [
        ("CNI_COMMAND", "DEL"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", "K8S_POD_NAME=a/b"),
    ];
    let Ok(Asked::Verb(Verb::Del, invocation)) = asked(&Environment::from(env)) else {
        panic!("refused");
    };
    assert_eq!(invocation.pod, PodArgs::default());
}

proptest! {
    #[test]
    fn anything_is_answered(command in "ADD|DEL|CHECK|GC|STATUS|VERSION|.{0,8}", id in ".{0,80}", ifname in ".{0,20}", args in ".{0,80}") {
        let env = Environment::from([
            ("CNI_COMMAND", command.as_str()), ("CNI_CONTAINERID", &id), ("CNI_NETNS", "/x"), ("CNI_IFNAME", &ifname), ("CNI_ARGS", &args),
        ]);
        match asked(&env) {
            Ok(Asked::Verb(verb, invocation)) if !verb.required().is_empty() => {
                prop_assert!(!invocation.container_id.contains('/') && !invocation.ifname.contains('/'));
                prop_assert!(is_name(&invocation.pod.name) && is_name(&invocation.pod.namespace));
            }
            Ok(_) => {}
            Err(error) => prop_assert_eq!(error.code, ENVIRONMENT),
        }
    }
}

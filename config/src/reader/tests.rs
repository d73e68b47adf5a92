use super::*;

#[test]
fn addresses_to_listen_on_are_gos() {
    let tcp = |text: &str| text.parse().ok().map(BindAddress::Tcp);
    for (text, expected) in [
        ("127.0.0.1:61679", tcp("127.0.0.1:61679")),
        (":80", tcp("0.0.0.0:80")),
        ("localhost:80", tcp("127.0.0.1:80")),
        ("[::1]:80", tcp("[::1]:80")),
        ("unix:/run/x.sock", Some(BindAddress::Unix("/run/x.sock".into()))),
        ("unix:x.sock", None),
        ("127.0.0.1", None),
        (":", None),
        (":65536", None),
        ("", None),
        ("host.example:80", None),
    ] {
        assert_eq!(bind_address(text), expected, "{text:?}");
    }
}

#[test]
fn environment_is_read_as_it_is() {
    use crate::strings::Environment;
    assert!(Environment.get("PATH").is_some(), "every process has a PATH");
    assert_eq!(Environment.get("PODWIRE_NEVER_SET_BY_ANYBODY"), None);
    assert!(Environment::names().iter().any(|name| name == "PATH"));
}

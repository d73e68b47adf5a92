use super::*;

#[test]
fn environment_is_read_as_it_is() {
    use crate::strings::Environment;
    assert!(Environment.get("PATH").is_some(), "every process has a PATH");
    assert_eq!(Environment.get("PODWIRE_NEVER_SET_BY_ANYBODY"), None);
    assert!(Environment::names().iter().any(|name| name == "PATH"));
}

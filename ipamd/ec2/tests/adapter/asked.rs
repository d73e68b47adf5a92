//! How things are asked of EC2, where the way of asking decides what can go wrong (incumbent-testcases D).

use crate::process::child;
use crate::server::{Server, ec2};

fn bodies(part: &str) -> (Server, Vec<String>) {
    let server = ec2();
    let keys = [("AWS_ACCESS_KEY_ID", "AKIAENV"), ("AWS_SECRET_ACCESS_KEY", "s")];
    let mut environment = vec![("AWS_EC2_METADATA_DISABLED", "true")];
    let url = server.url();
    environment.push(("AWS_EC2_ENDPOINT", &url));
    environment.extend(keys);
    let said = child(part, &environment);
    (server, said)
}

/// D07: an ENI has all of its tags from the moment it exists. Better than the incumbent, which tags afterwards, in up to
/// five tries, and leaves an ENI nobody can attribute when all of them fail.
#[test]
fn tags_come_with_the_create_and_are_never_set_later() {
    let (server, _) = bodies("create");
    let seen: Vec<String> = server.seen().into_iter().map(|request| request.body).collect();
    let create = seen.iter().find(|body| body.contains("Action=CreateNetworkInterface")).unwrap();
    for tag in
        ["node.k8s.amazonaws.com%2Finstance_id", "node.k8s.amazonaws.com%2FcreatedAt", "podwire.io%2Fop"]
    {
        assert!(create.contains(tag), "{tag} is missing: {create}");
    }
    assert!(!seen.iter().any(|body| body.contains("Action=CreateTags")), "{seen:?}");
}

/// D08: an ENI that EC2 does not know any more. The incumbent asks by id, which fails as a whole, and reads the bad id out
/// of the message. Better: it is asked for by filter, so that absence is an answer and no text is read.
#[test]
fn unknown_eni_is_an_answer_and_no_error() {
    let (server, said) = bodies("unknown");
    assert_eq!(said, ["Ok(Described([]))"]);
    let last = server.seen().pop().unwrap().body;
    assert!(last.contains("Name=network-interface-id") && last.contains("eni-00000088"), "{last}");
    assert!(!last.contains("NetworkInterfaceId.1="), "{last}");
}

#![allow(clippy::expect_used, reason = "a test that finds what it did not expect has to stop")]

use podwire_ec2::{Ec2Options, TagSet};
use podwire_pool::InstanceId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

#[test]
fn pauses_after_refusals_begin_short_and_end_at_the_longest() {
    let spans: Vec<(u128, u128)> =
        (0..8).map(|n| (pause(n, 0).as_millis(), pause(n, u64::MAX).as_millis())).collect();
    for (n, (least, most)) in spans.iter().enumerate() {
        let bound = 1_000u128.saturating_mul(1 << n).min(30_000);
        assert!(*least == bound / 2 && *most <= bound, "{spans:?}");
    }
    let random = (0..1_000u64).map(|n| pause(20, n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).as_millis());
    let (low, high) = random.fold((u128::MAX, 0), |(low, high), ms| (low.min(ms), high.max(ms)));
    assert!(low >= 15_000 && high <= 30_000 && high - low > 14_000, "{low} to {high}");
}

/// A metadata service with one ENI; whoever asks it is counted before the answer.
async fn metadata(asked: std::sync::Arc<std::sync::atomic::AtomicU32>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.expect("a request");
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let path = request.split(' ').nth(1).unwrap_or_default();
            let body = match path.rsplit('/').next() {
                Some("token") => "token",
                Some("") => "02:00:00:00:00:01/",
                Some("device-number") => "0",
                Some("interface-id") => "eni-1",
                Some("subnet-id") => "subnet-1",
                Some("local-ipv4s") => "10.0.0.4",
                Some("security-group-ids") => "sg-1",
                Some(_) | None => "",
            };
            let status = if body.is_empty() { 404 } else { 200 };
            let answer = format!(
                "HTTP/1.1 {status} X\r\nconnection: close\r\nx-aws-ec2-metadata-token-ttl-seconds: 60\r\n\
                 content-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.expect("a reader");
        }
    });
    url
}

fn options() -> Ec2Options {
    Ec2Options {
        region: "eu-west-1".into(),
        endpoint: Some("http://127.0.0.1:1".into()),
        timeout: Duration::from_secs(1),
        instance: InstanceId::new("i-1"),
        zone: String::new(),
        vpc: String::new(),
        tags: TagSet::default(),
        token_salt: String::new(),
    }
}

/// What is asked of EC2 while somebody looks is not in what he sees: the newest operation is asked for before the look.
#[tokio::test]
async fn look_is_as_old_as_its_question() {
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let url = metadata(std::sync::Arc::clone(&asked)).await;
    let (driver, mut inbox) = Handle::channel();
    let ec2 = Ec2Client::new(options()).await;
    let looking = tokio::spawn(first(driver, Imds::at(&url), ec2, FirstLook::Metadata));
    match inbox.recv().await {
        Some(Message::Newest { reply }) => {
            assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 0, "metadata was read before");
            reply.send(OpId(7)).expect("somebody waits");
        }
        other => assert!(matches!(other, Some(Message::Newest { .. })), "{other:?} instead"),
    }
    match inbox.recv().await {
        Some(Message::Saw(snapshot)) => assert_eq!((snapshot.as_of, snapshot.enis.len()), (OpId(7), 1)),
        other => assert!(matches!(other, Some(Message::Saw(_))), "{other:?} instead"),
    }
    looking.await.expect("it ends");
}

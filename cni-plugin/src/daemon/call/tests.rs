use super::*;
use proptest::prelude::*;

/// What a server sends for one call: settings, headers, the message, trailers with this status (Huffman-coded by hand).
fn served(message: &[u8], status: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame(&mut bytes, SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0, 0, 5, 0, 0, 0x40, 0]);
    frame(&mut bytes, SETTINGS, ACK, 0, &[]);
    frame(&mut bytes, HEADERS, END_HEADERS, 1, &[0x88]);
    frame(&mut bytes, PING, 0, 0, b"12345678");
    frame(&mut bytes, DATA, PADDED, 1, &[&[3][..], &framed(message).expect("short"), &[0, 0, 0]].concat());
    let trailers = [&[0x40, 11][..], b"grpc-status", &[1, b'0' + status]].concat();
    let (first, second) = trailers.split_at(5);
    frame(&mut bytes, HEADERS, END_STREAM, 1, first);
    frame(&mut bytes, CONTINUATION, END_HEADERS, 1, second);
    bytes
}

/// A connection whose server has said all it will say.
fn connection(served: &[u8]) -> (Connection, UnixStream) {
    let (stream, mut server) = UnixStream::pair().expect("a pair");
    server.write_all(served).expect("written");
    server.shutdown(std::net::Shutdown::Write).expect("shut down");
    let connection = Connection {
        stream,
        outgoing: Vec::new(),
        incoming: VecDeque::new(),
        next_stream: 1,
        frame_max: FRAME_DEFAULT,
        window: WINDOW_DEFAULT,
        stream_window_first: WINDOW_DEFAULT,
    };
    (connection, server)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

#[test]
fn call_returns_the_message() {
    let (mut connection, _server) = connection(&served(b"hello", 0));
    assert_eq!(connection.call("/s/M", b"?", soon()).expect("answered"), b"hello");
    assert_eq!(connection.window, WINDOW_DEFAULT - 6);
    assert_eq!(connection.stream_window_first, 65_536);
}

#[test]
fn call_returns_the_status() {
    let (mut connection, _server) = connection(&served(b"", 5));
    assert!(matches!(connection.call("/s/M", b"?", soon()), Err(CallError::Status(5, _))));
}

#[test]
fn call_on_a_closed_connection_fails_at_once() {
    let (mut connection, _server) = connection(&served(b"hello", 0)[..40]);
    assert!(matches!(connection.call("/s/M", b"?", soon()), Err(CallError::Io(_))));
}

#[test]
fn call_without_answer_ends_at_its_deadline() {
    let (stream, _server) = UnixStream::pair().expect("a pair");
    let (mut connection, _other) = connection(&[]);
    connection.stream = stream;
    let started = Instant::now();
    let outcome = connection.call("/s/M", b"?", started + Duration::from_millis(50));
    assert!(matches!(outcome, Err(CallError::Late)), "{outcome:?}");
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn requests_beyond_the_window_wait_for_it() {
    let (mut connection, _server) = connection(&[]);
    let mut call = Running {
        stream: 1,
        window: 20_000,
        unsent: vec![7; 40_000].into(),
        headers: Vec::new(),
        trailers: Trailers::default(),
        body: Vec::new(),
        last: false,
        ended: false,
    };
    connection.send_body(&mut call);
    assert_eq!((call.unsent.len(), call.window), (20_000, 0));
    assert_eq!(connection.outgoing.len(), 20_000 + 2 * 9, "two frames, none above 16 KiB");
    let update =
        Frame { kind: WINDOW_UPDATE, flags: 0, stream: 1, payload: 30_000_u32.to_be_bytes().to_vec() };
    connection.take(update, &mut call).expect("taken");
    assert_eq!((call.unsent.len(), call.window), (0, 10_000));
}

proptest! {
    #[test]
    fn any_server_is_survived(served in proptest::collection::vec(any::<u8>(), 0..300)) {
        let (mut connection, _server) = connection(&served);
        let _ = connection.call("/s/M", b"?", soon());
    }

    #[test]
    fn any_damage_to_a_good_answer_is_survived(at in 0usize..120, byte in any::<u8>()) {
        let mut bytes = served(b"hello", 0);
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        let (mut connection, _server) = connection(&bytes);
        if let Ok(message) = connection.call("/s/M", b"?", soon()) {
            prop_assert!(message.len() <= bytes.len());
        }
    }
}

use super::*;
use podwire_proto::v1::{StatusRequest, StatusResponse};
use proptest::prelude::*;
use std::net::Shutdown;
use std::time::Duration;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The beginning of every answer: settings, and the acknowledgement of ours.
fn greeting() -> Vec<u8> {
    [frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0, 0, 5, 0, 0, 0x40, 0]), frame(SETTINGS, 1, 0, &[])].concat()
}

/// A literal header without indexing.
fn header(name: &[u8], value: &[u8]) -> Vec<u8> {
    let length = |text: &[u8]| u8::try_from(text.len()).expect("short");
    [&[0, length(name)], name, &[length(value)], value].concat()
}

/// What a server sends for one call: headers, a ping between, a padded message, trailers in two frames.
fn served(message: &[u8], status: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("short").to_be_bytes();
    let padded = [&[3, 0], &length[..], message, &[0; 3]].concat();
    let trailers = header(b"grpc-status", status);
    let (first, second) = trailers.split_at(5);
    [
        greeting(),
        frame(HEADERS, END_HEADERS, 1, &[0x88]),
        frame(PING, 0, 0, b"12345678"),
        frame(DATA, PADDED, 1, &padded),
        frame(HEADERS, END_STREAM, 1, first),
        frame(CONTINUATION, END_HEADERS, 1, second),
    ]
    .concat()
}

fn good() -> Vec<u8> {
    served(&StatusResponse { ready: true, free: 7, ..StatusResponse::default() }.encode_to_vec(), b"0")
}

/// A connection to a server that says this once it has been asked, in pieces of this size, and no more.
fn spoken(served: &[u8], piece: usize) -> Connection {
    let (stream, mut server) = UnixStream::pair().expect("a pair");
    stream.set_nonblocking(true).expect("non-blocking");
    let served = served.to_vec();
    // Ends with the connection at the latest.
    std::thread::spawn(move || -> io::Result<()> {
        let (mut heard, mut buffer) = (0, [0; 1024]);
        while heard < ASKED {
            match server.read(&mut buffer)? {
                0 => return Ok(()),
                length => heard += length,
            }
        }
        served.chunks(piece).try_for_each(|bytes| server.write_all(bytes))?;
        server.shutdown(Shutdown::Write)?;
        // Until the client has gone, so that it is never told of a broken pipe instead.
        while server.read(&mut buffer)? != 0 {}
        Ok(())
    });
    Connection::over(stream).expect("a connection")
}

/// The preface has 24 bytes; what follows it comes in one piece with the request.
const ASKED: usize = 25;

fn connection(served: &[u8]) -> Connection {
    spoken(served, served.len().max(1))
}

fn ask(connection: &mut Connection) -> Result<StatusResponse, CallError> {
    connection.call("Status", &StatusRequest {}, Instant::now() + Duration::from_secs(5))
}

#[test]
fn answer_is_read() {
    let mut connection = connection(&good());
    let answer = ask(&mut connection).expect("answered");
    assert_eq!((answer.ready, answer.free), (true, 7));
}

#[test]
fn answer_in_single_bytes_is_read() {
    assert!(ask(&mut spoken(&good(), 1)).expect("answered").ready);
}

#[test]
fn status_ends_the_call() {
    let mut connection = connection(&served(b"", b"14"));
    let failed = ask(&mut connection);
    assert!(
        matches!(&failed, Err(CallError::Status(s)) if s.code() == tonic::Code::Unavailable),
        "{failed:?}"
    );
}

/// gRPC over HTTP/2, "Trailers-Only".
#[test]
fn status_in_the_headers_ends_the_call() {
    let block =
        [vec![0x88], header(b"grpc-status", b"5"), header(b"grpc-message", b"no%20such%20thing")].concat();
    let bytes = [greeting(), frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)].concat();
    let mut connection = connection(&bytes);
    let failed = ask(&mut connection);
    assert!(matches!(&failed, Err(CallError::Status(s)) if s.message() == "no such thing"), "{failed:?}");
}

#[test]
fn damaged_details_of_a_status_are_survived() {
    let block = [vec![0x88], header(b"grpc-status", b"5"), header(b"grpc-status-details-bin", b"!")].concat();
    let bytes = [greeting(), frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)].concat();
    let mut connection = connection(&bytes);
    assert!(matches!(ask(&mut connection), Err(CallError::Status(_))));
}

#[test]
fn answer_without_status_or_cut_short_is_none() {
    let no_status = [greeting(), frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x88])].concat();
    let failed = ask(&mut connection(&no_status));
    assert!(matches!(&failed, Err(CallError::Status(s)) if s.code() == tonic::Code::Unknown), "{failed:?}");
    for prefix in [&[0, 0, 0, 0, 9][..], &[1, 0, 0, 0, 0], &[0, 0]] {
        let bytes = [
            greeting(),
            frame(HEADERS, END_HEADERS, 1, &[0x88]),
            frame(DATA, 0, 1, prefix),
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &header(b"grpc-status", b"0")),
        ];
        let failed = ask(&mut connection(&bytes.concat()));
        assert!(matches!(failed, Err(CallError::Broken(_))), "{prefix:?}: {failed:?}");
    }
}

#[test]
fn reset_call_and_ended_connection_are_lost() {
    for bytes in [
        [greeting(), frame(RST_STREAM, 0, 1, &[0, 0, 0, 7])].concat(),
        [greeting(), frame(GOAWAY, 0, 0, &[0; 8])].concat(),
        good()[..60].to_vec(),
        Vec::new(),
    ] {
        let mut connection = connection(&bytes);
        let failed = ask(&mut connection);
        assert!(matches!(failed, Err(CallError::Lost(_) | CallError::Closed)), "{failed:?}");
        assert!(ask(&mut connection).is_err(), "a connection that has ended stays so");
    }
}

#[test]
fn server_that_says_nothing_is_late() {
    let (stream, _server) = UnixStream::pair().expect("a pair");
    stream.set_nonblocking(true).expect("non-blocking");
    let mut connection = Connection::over(stream).expect("a connection");
    let began = Instant::now();
    let failed: Result<StatusResponse, _> =
        connection.call("Status", &StatusRequest {}, began + Duration::from_millis(50));
    assert!(matches!(failed, Err(CallError::Late)), "{failed:?}");
    assert!(began.elapsed() >= Duration::from_millis(50));
}

proptest! {
    #[test]
    fn any_server_is_survived(served in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = ask(&mut connection(&served));
        let _ = ask(&mut connection(&[greeting(), served].concat()));
    }

    #[test]
    fn any_damage_to_a_good_answer_is_survived(at in 0usize..120, byte in any::<u8>()) {
        let mut bytes = good();
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        let _ = ask(&mut connection(&bytes));
    }
}

//! The lab's side of the control socket.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc;

use super::{Answer, Request, socket, status};
use crate::lab::Lab;

/// Answers on the lab's socket until the process ends. `down` hears of it when somebody takes the lab down.
///
/// # Errors
/// The socket cannot be made.
pub fn serve(lab: Arc<Lab>, down: mpsc::UnboundedSender<()>) -> anyhow::Result<()> {
    let path = socket(lab.name());
    let listener =
        UnixListener::bind(&path).with_context(|| format!("cannot listen at {}", path.display()))?;
    // Weak: taking the lab down must not wait for those who have asked it something.
    let lab = Arc::downgrade(&lab);
    thread::Builder::new().name("control".to_owned()).spawn(move || {
        for asking in listener.incoming() {
            let Ok(asking) = asking else { continue };
            let Some(lab) = lab.upgrade() else { return };
            let down = down.clone();
            let spawned = thread::Builder::new().name("control".to_owned()).spawn(move || {
                if let Err(error) = converse(&lab, &asking, &down) {
                    tracing::debug!(%error, "a control connection ended early");
                }
            });
            if let Err(error) = spawned {
                tracing::warn!(%error, "cannot serve a control connection");
            }
        }
    })?;
    Ok(())
}

/// One question, one answer.
fn converse(lab: &Lab, stream: &UnixStream, down: &mpsc::UnboundedSender<()>) -> io::Result<()> {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let parsed: Result<Request, _> = serde_json::from_str(&line);
    let (answer, is_last) = match parsed {
        Ok(Request::Down) => (Answer::Done(Value::Null), true),
        Ok(request) => {
            (answer(lab, request).unwrap_or_else(|error| Answer::Refused(format!("{error:#}"))), false)
        }
        Err(error) => (Answer::Refused(format!("not a request: {error}")), false),
    };
    let mut text = serde_json::to_string(&answer)?;
    text.push('\n');
    let mut stream = stream;
    stream.write_all(text.as_bytes())?;
    if is_last && down.send(()).is_err() {
        tracing::debug!("the lab is going down already");
    }
    Ok(())
}

fn answer(lab: &Lab, request: Request) -> anyhow::Result<Answer> {
    match request {
        Request::Status => done(&status(lab)?),
        Request::AddNode(spec) => {
            let node = lab.add_node(spec)?;
            done(&status::node(lab, &node)?)
        }
        Request::RebootNode(name) => done(&lab.reboot_node(&name)?),
        Request::RemoveNode(name) => done(&lab.remove_node(&name)?),
        Request::Trouble => done(&lab.with_cloud(|cloud| cloud.trouble().clone())),
        Request::SetTrouble(settings) => {
            lab.trouble(*settings);
            done(&())
        }
        Request::Calls => done(&lab.with_cloud(|cloud| cloud.stats())),
        Request::ForgetCalls => {
            lab.with_cloud(|cloud| cloud.forget_calls());
            done(&())
        }
        Request::LastCalls(count) => lab.with_cloud(|cloud| {
            let mut calls: Vec<_> = cloud.calls().rev().take(count).collect();
            calls.reverse();
            done(&calls)
        }),
        Request::Down => done(&()),
    }
}

fn done(value: &impl Serialize) -> anyhow::Result<Answer> {
    Ok(Answer::Done(serde_json::to_value(value)?))
}

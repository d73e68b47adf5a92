//! Threads without which the daemon is of no use: each is the only one that does what it does.

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Name of the thread that changes and repairs host networking.
pub const HOST_NETWORKING: &str = "hostnet";
/// Name of the thread that writes the ledger.
pub const LEDGER: &str = "ledger";
/// Name of the threads that delete links.
pub const LINKS: &str = "links";

/// Tells from now on which of these threads panicked. Tasks are no threads: who awaits one learns of its panic.
#[must_use]
pub fn deaths() -> UnboundedReceiver<String> {
    let (died, deaths) = unbounded_channel();
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        let thread = std::thread::current();
        if let Some(name @ (HOST_NETWORKING | LEDGER | LINKS)) = thread.name() {
            // Once nobody listens the daemon ends anyway.
            let _ = died.send(format!("the thread {name} died: {panic}"));
        }
    }));
    deaths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn death_of_a_vital_thread_is_told_and_no_other() {
        let mut deaths = deaths();
        for name in ["another", HOST_NETWORKING, LEDGER, LINKS] {
            let thread = std::thread::Builder::new().name(name.into()).spawn(|| panic!("as it was told to"));
            thread.expect("started").join().expect_err("it panicked");
            let told = deaths.try_recv().ok();
            let expected = (name != "another").then(|| format!("the thread {name} died"));
            assert_eq!(told.is_some(), expected.is_some(), "{name}: {told:?}");
            assert!(told.unwrap_or_default().starts_with(&expected.unwrap_or_default()), "{name}");
        }
    }
}

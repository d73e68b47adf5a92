//! stdout and stderr: the one JSON text, and the introduction for people.

use super::version;
use std::io::{self, Write as _};

/// Prints one JSON text and makes sure that it left (P-02).
///
/// # Errors
/// stdout is closed or full.
pub fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// What a person who executes the plugin by hand reads (P-20).
pub fn introduction() {
    let text = format!(
        "podwire CNI plugin aws-cni {}\nCNI protocol versions supported: {}\n",
        env!("CARGO_PKG_VERSION"),
        version::SUPPORTED.join(", ")
    );
    // Nobody reads it where stderr is closed.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

//! Records ↔ the text inside a frame: one line of JSON each, so that `strings ledger` shows a person what happened.

use podwire_pool::Record;

use crate::wire::Line;

/// One line of JSON for each record, each ended by a newline.
pub(crate) fn encode(records: &[Record]) -> Vec<u8> {
    let mut text = Vec::new();
    for record in records {
        serde_json::to_writer(&mut text, &Line::from(record))
            .expect("a line has text keys only and a Vec takes every write");
        text.push(b'\n');
    }
    text
}

/// The records of a text; `Err` says why it is none of ours.
pub(crate) fn decode(text: &[u8]) -> Result<Vec<Record>, String> {
    let body = text.strip_suffix(b"\n").ok_or("the last line is not ended")?;
    body.split(|&byte| byte == b'\n')
        .map(|line| {
            let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
            Record::try_from(line).map_err(str::to_owned)
        })
        .collect()
}

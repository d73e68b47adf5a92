//! Watching and disturbing what is sent to the kernel, for tests of "fails at every step" and "asks for no lists".
//!
//! Without the feature `probe` this is nothing at all. Everything concerns the calling thread only.

#[cfg(feature = "probe")]
mod active {
    use std::cell::{Cell, RefCell};

    thread_local! {
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
        static FOR_GOOD: Cell<bool> = const { Cell::new(false) };
        static ANSWERS: Cell<Option<u32>> = const { Cell::new(None) };
        static INTERRUPTED: Cell<u32> = const { Cell::new(0) };
        // `None` until a test asks: a daemon built in one go with the tests carries this code too, and must not grow.
        static SENT: RefCell<Option<Vec<(u16, bool)>>> = const { RefCell::new(None) };
    }

    /// Lets `good` messages pass and has the kernel refuse the next one; `None` disturbs nothing.
    pub fn refuse_after(good: Option<u32>) {
        LEFT.set(good);
        FOR_GOOD.set(false);
    }

    /// Lets `good` messages pass and has the kernel refuse all further ones.
    pub fn refuse_from(good: u32) {
        LEFT.set(Some(good));
        FOR_GOOD.set(true);
    }

    /// Lets `good` batches be answered and loses the answers to the next one, which the kernel carries out.
    pub fn lose_answers_after(good: Option<u32>) {
        ANSWERS.set(good);
    }

    pub(crate) fn loses_answers() -> bool {
        let left = ANSWERS.get();
        ANSWERS.set(left.and_then(|n| n.checked_sub(1)));
        left == Some(0)
    }

    /// Has the next `times` lists look as if changes had interrupted them.
    pub fn interrupt_lists(times: u32) {
        INTERRUPTED.set(times);
    }

    pub(crate) fn interrupts() -> bool {
        let left = INTERRUPTED.get();
        INTERRUPTED.set(left.saturating_sub(1));
        left > 0
    }

    /// Type of every message sent since the last call, and whether it asked for a list. The first call on a thread
    /// returns nothing and begins to keep.
    pub fn sent() -> Vec<(u16, bool)> {
        SENT.replace(Some(Vec::new())).unwrap_or_default()
    }

    pub(crate) fn note(kind: u16, list: bool) {
        SENT.with_borrow_mut(|sent| sent.iter_mut().for_each(|sent| sent.push((kind, list))));
    }

    pub(crate) fn refuses() -> bool {
        let left = LEFT.get();
        let refuses = left == Some(0);
        if !(refuses && FOR_GOOD.get()) {
            LEFT.set(left.and_then(|n| n.checked_sub(1)));
        }
        refuses
    }
}

#[cfg(feature = "probe")]
pub use active::{interrupt_lists, lose_answers_after, refuse_after, refuse_from, sent};
#[cfg(feature = "probe")]
pub(crate) use active::{interrupts, loses_answers, note, refuses};

#[cfg(not(feature = "probe"))]
pub(crate) fn note(_kind: u16, _list: bool) {}

#[cfg(not(feature = "probe"))]
pub(crate) fn refuses() -> bool {
    false
}

#[cfg(not(feature = "probe"))]
pub(crate) fn interrupts() -> bool {
    false
}

#[cfg(not(feature = "probe"))]
pub(crate) fn loses_answers() -> bool {
    false
}

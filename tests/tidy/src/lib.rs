//! Checks that the workspace keeps its own rules: the arrows between rooms, file sizes, bans, citations, tests for every
//! requirement of CNI.
//!
//! Each check is a function from a [`Workspace`] to a list of [`Problem`]s, tried on planted violations beside it and on
//! the workspace itself in `tests/workspace.rs`. Checks read files; they run nothing and change nothing.

pub mod arrows;
pub mod bans;
pub mod blank;
pub mod citations;
pub mod conformance;
pub mod files;
pub mod workspace;

pub use workspace::{Problem, SourceFile, Workspace};

/// Every check, in the order in which they are reported.
#[must_use]
pub fn all(workspace: &Workspace) -> Vec<Problem> {
    [
        arrows::check(&workspace.packages),
        files::required(&workspace.root),
        files::manifests(&workspace.files),
        files::sizes(&workspace.files),
        bans::check(&workspace.files),
        citations::check(&workspace.files),
        conformance::check(&workspace.files),
    ]
    .concat()
}

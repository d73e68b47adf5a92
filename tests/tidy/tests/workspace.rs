//! The workspace keeps its own rules.

use podwire_tidy::{Workspace, all};

#[test]
fn workspace_keeps_its_rules() {
    let workspace = Workspace::here().expect("the workspace can be read");
    assert!(workspace.packages.len() >= 10, "cargo lists {} packages", workspace.packages.len());
    let rust = workspace.files.iter().filter(|file| file.is_product()).count();
    assert!(rust > 30, "only {rust} product files were found: the scan is blind");
    let problems = all(&workspace);
    let list: String = problems.iter().map(|problem| format!("\n  {problem}")).collect();
    assert!(problems.is_empty(), "{} rules are broken:{list}", problems.len());
}

//! The plugin, built with the tests.

fn main() -> std::process::ExitCode {
    aws_cni::main()
}

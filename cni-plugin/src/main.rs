//! The plugin's binary; see the library.

fn main() -> std::process::ExitCode {
    aws_cni::main()
}

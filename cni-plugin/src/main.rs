//! The plugin's binary; see the library.
#![no_main]
#![expect(unsafe_code, reason = "libc knows its entry by this name")]

#[unsafe(no_mangle)]
extern "C" fn main() -> std::ffi::c_int {
    aws_cni::main()
}

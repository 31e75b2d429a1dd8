//! One flag for the linker.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if is("OS", "linux") && is("ENV", "gnu") && is("FEATURE", "crt-static") {
        // A static program relocates itself at its start. The packed table takes 4 KiB instead of 360 KiB, on disk and in memory.
        // The C library that is linked in has to know it: glibc does since 2.36.
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// Whether a property of the target has, or is among others, this value.
#[expect(clippy::disallowed_methods, reason = "cargo tells a build script so")]
fn is(property: &str, value: &str) -> bool {
    std::env::var(format!("CARGO_CFG_TARGET_{property}")).is_ok_and(|values| values.split(',').any(|one| one == value))
}

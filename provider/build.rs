//! Linker options of the module. It exports `C_*` and nothing else because rustc's version script for a `cdylib` lists
//! the `no_mangle` functions, and there are no others. `tests/abi` compares the list.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Set by cargo-fuzz; it enables the functions that a fuzzer calls.
    println!("cargo:rustc-check-cfg=cfg(fuzzing)");
    // Hosts call `dlclose` while other threads may still run in the module; so its code stays mapped.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}

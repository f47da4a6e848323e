//! How the module is linked. That it exports `C_*` and nothing else is rustc's own version script for a `cdylib`:
//! it lists the `no_mangle` functions, and there are no others. `tests/abi` compares the list.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // What cargo-fuzz sets: the functions that a fuzzer calls are there then.
    println!("cargo:rustc-check-cfg=cfg(fuzzing)");
    // Hosts call `dlclose` while other threads may still be inside us; code that stays mapped cannot be called away.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}

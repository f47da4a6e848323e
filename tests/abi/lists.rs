//! Function lists, interfaces and exported symbols.

use std::process::Command;

use kms_protocol::Rv;
use kms_tests::artefacts::artefacts;
use kms_tests::program;
use kms_tests::raw::Module;

#[test]
fn there_are_three_interfaces_without_null_entries() {
    let module = Module::load(&artefacts().module);
    let interfaces = module.interfaces().expect("interfaces can be listed");
    let mut versions = Vec::new();
    for interface in &interfaces {
        assert_eq!(interface.name, "PKCS 11");
        assert_eq!(interface.flags, 0, "sessions do not survive a fork, so no flag may claim it");
        assert!(interface.entries.iter().all(Option::is_some), "{interface:?}");
        versions.push((interface.version, interface.entries.len()));
    }
    versions.sort_unstable();
    assert_eq!(versions, [((2, 40), 68), ((3, 0), 92), ((3, 2), 104)]);
}

#[test]
fn the_list_of_2_40_is_complete() {
    let module = Module::load(&artefacts().module);
    let version = module.list().version;
    assert_eq!((version.major, version.minor), (2, 40));
    let old = module.interface(Some("PKCS 11"), Some((2, 40))).expect("the interface of 2.40");
    assert_eq!(old.entries.len(), 68);
}

#[test]
fn interfaces_are_found_by_name_and_version() {
    let module = Module::load(&artefacts().module);
    let version = |name, version| module.interface(name, version).map(|interface| interface.version);
    assert_eq!(version(None, None), Ok((3, 2)));
    assert_eq!(version(Some("PKCS 11"), None), Ok((3, 2)));
    assert_eq!(version(Some("PKCS 11"), Some((3, 2))), Ok((3, 2)));
    assert_eq!(version(Some("PKCS 11"), Some((3, 0))), Ok((3, 0)));
    // Not FUNCTION_NOT_SUPPORTED, because hosts would then stop using interfaces at all.
    for (name, wanted) in [(Some("PKCS 11"), Some((9, 9))), (Some("Vendor"), None), (Some(""), Some((3, 0)))]
    {
        let result = version(name, wanted);
        assert!(
            matches!(result, Err(rv) if rv != Rv::FUNCTION_NOT_SUPPORTED),
            "{name:?} {wanted:?}: {result:?}"
        );
    }
}

#[test]
fn function_lists_are_available_before_initialisation() {
    // A new copy of the module that was never initialised, without a configuration: reading lists has no side effects.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copy = folder.path().join("module.so");
    std::fs::copy(&artefacts().module, &copy).expect("the module can be copied");
    let module = Module::load(&copy);
    module.interfaces().expect("interfaces can be listed");
    assert_eq!(module.slots(false), Err(Rv::CRYPTOKI_NOT_INITIALIZED));
    assert_eq!(module.finalize(), Err(Rv::CRYPTOKI_NOT_INITIALIZED));
}

#[test]
fn only_pkcs11_functions_are_exported() {
    let mut command = Command::new("nm");
    command.args(["-D", "--defined-only", "--format=posix"]).arg(&artefacts().module);
    let listed = program::run(&mut command).ok();
    let mut names: Vec<_> = listed.lines().filter_map(|line| line.split([' ', '@']).next()).collect();
    names.sort_unstable();
    names.dedup();
    let unexpected: Vec<_> = names.iter().filter(|name| !name.starts_with("C_")).collect();
    assert_eq!(unexpected, [&""; 0], "only C_* is exported");
    let module = Module::load(&artefacts().module);
    for name in &names {
        assert!(module.symbol(name).is_some(), "{name}");
    }
    // 68 of 2.40; 3.0 adds 24, which may be exported as well, and 3.2 adds 12.
    assert!([68, 92, 104].contains(&names.len()), "{} functions: {names:?}", names.len());
    for name in ["C_GetFunctionList", "C_GetInterface", "C_GetInterfaceList", "C_Sign", "C_WaitForSlotEvent"]
    {
        assert!(names.contains(&name), "{name}");
    }
}

#[test]
fn the_module_links_only_system_libraries() {
    let mut command = Command::new("ldd");
    let needed = program::run(command.arg(&artefacts().module)).ok();
    for unexpected in ["libcrypto", "libssl", "sqlite", "softhsm", "stdc++"] {
        assert!(!needed.contains(unexpected), "{needed}");
    }
}

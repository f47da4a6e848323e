//! Tests with SoftHSM.

use std::sync::Barrier;

use kms_core::object::MasterVersion;

use super::*;

fn config(test: &str) -> Option<HsmConfig> {
    let home = kms_softhsm::home_in_child(&format!("tests::{test}"))?;
    let (module, pin_file) = (kms_softhsm::module().to_owned(), kms_softhsm::pin_file(&home));
    Some(HsmConfig { module, token: kms_softhsm::label().to_owned(), pin_file, threads: 4 })
}

const FIRST: MasterVersion = MasterVersion(1);
const SECOND: MasterVersion = MasterVersion(2);

#[test]
fn material_is_unwrapped_with_its_identity_and_master_only() {
    let Some(config) = config("material_is_unwrapped_with_its_identity_and_master_only") else { return };
    let hsm = Hsm::open(&config).unwrap();
    assert_eq!(hsm.masters().unwrap(), []);
    assert!(matches!(hsm.alive(), Err(HsmError::MasterMissing(_))));
    hsm.create_master(SECOND).unwrap();
    hsm.create_master(FIRST).unwrap();
    assert!(matches!(hsm.create_master(FIRST), Err(HsmError::MasterExists(FIRST))));
    assert_eq!(hsm.masters().unwrap(), [FIRST, SECOND]);
    hsm.alive().unwrap();

    for length in [1, 16, 32, 33, 2500, MATERIAL_BYTES_MAX] {
        let material = vec![7; length];
        let wrapped = hsm.wrap(FIRST, b"identity", &material).unwrap();
        assert_eq!(wrapped.len(), 12 + length + 16);
        assert_eq!(hsm.unwrap(FIRST, b"identity", &wrapped).unwrap().as_ref(), material);
        let rejected = |master, identity: &[u8], wrapped: &[u8]| {
            let result = hsm.unwrap(master, identity, wrapped);
            assert!(matches!(result, Err(HsmError::MaterialInvalid)), "{result:?}");
        };
        rejected(SECOND, b"identity", &wrapped);
        rejected(FIRST, b"identitx", &wrapped);
        rejected(FIRST, b"", &wrapped);
        for at in [0, 11, 12, 12 + length, wrapped.len() - 1] {
            let mut changed = wrapped.clone();
            changed[at] ^= 1;
            rejected(FIRST, b"identity", &changed);
        }
        rejected(FIRST, b"identity", &wrapped[..wrapped.len() - 1]);
    }
    assert!(matches!(hsm.unwrap(FIRST, b"", &[0; 27]), Err(HsmError::MaterialInvalid)));
    assert!(matches!(hsm.wrap(FIRST, b"", &[0; MATERIAL_BYTES_MAX + 1]), Err(HsmError::TooLarge(_))));
    assert!(matches!(hsm.wrap(MasterVersion(3), b"", b"x"), Err(HsmError::MasterMissing(MasterVersion(3)))));
    // The sessions still work after the rejected calls.
    hsm.alive().unwrap();
    let reopened = Hsm::open(&config).unwrap();
    assert_eq!(reopened.masters().unwrap(), [FIRST, SECOND]);
}

#[test]
fn a_master_key_does_not_leave_the_token() {
    use cryptoki::object::{Attribute, AttributeType};
    let Some(config) = config("a_master_key_does_not_leave_the_token") else { return };
    let hsm = Hsm::open(&config).unwrap();
    hsm.create_master(FIRST).unwrap();
    let module = cryptoki::context::Pkcs11::new(&config.module).unwrap();
    let slot = module.get_slots_with_initialized_token().unwrap()[0];
    let session = module.open_ro_session(slot).unwrap();
    let key = session.find_objects(&[Attribute::Label(b"kms-master".to_vec())]).unwrap()[0];
    let kinds =
        [AttributeType::Extractable, AttributeType::Sensitive, AttributeType::Wrap, AttributeType::Value];
    let attributes = format!("{:?}", session.get_attributes(key, &kinds).unwrap());
    assert_eq!(attributes, "[Extractable(false), Sensitive(true), Wrap(false)]");
}

#[test]
fn each_configuration_error_has_its_own_message() {
    let Some(config) = config("each_configuration_error_has_its_own_message") else { return };
    let error = |config: &HsmConfig| Hsm::open(config).map(drop).expect_err("the configuration is wrong");
    let module = config.pin_file.clone();
    assert!(matches!(error(&HsmConfig { module, ..config.clone() }), HsmError::ModuleUnusable { .. }));
    let module = "/nonexistent.so".into();
    assert!(matches!(error(&HsmConfig { module, ..config.clone() }), HsmError::ModuleMissing(_)));
    let missing = error(&HsmConfig { token: "another".to_owned(), ..config.clone() }).to_string();
    assert!(missing.contains("\"another\"") && missing.contains("\"kms-test\""), "{missing}");
    let pin_file = config.pin_file.with_extension("wrong");
    std::fs::copy(&config.pin_file, &pin_file).unwrap();
    std::fs::write(&pin_file, "654321").unwrap();
    assert!(matches!(error(&HsmConfig { pin_file, ..config.clone() }), HsmError::PinRefused(_)));
    let pin_file = "/nonexistent.pin".into();
    assert!(matches!(error(&HsmConfig { pin_file, ..config.clone() }), HsmError::Pin(_)));
    Hsm::open(&config).unwrap();
}

#[test]
fn a_lost_session_is_replaced() {
    let Some(config) = config("a_lost_session_is_replaced") else { return };
    let hsm = Hsm::open(&config).unwrap();
    hsm.create_master(FIRST).unwrap();
    let wrapped = hsm.wrap(FIRST, b"identity", b"material").unwrap();
    // The effect of a token that is removed and inserted again: the application's login ends, and its handles with it.
    let module = cryptoki::context::Pkcs11::new(&config.module).unwrap();
    let slot = module.get_slots_with_initialized_token().unwrap()[0];
    module.open_rw_session(slot).unwrap().logout().unwrap();
    for _ in 0..config.threads * 2 {
        assert_eq!(hsm.unwrap(FIRST, b"identity", &wrapped).unwrap().as_ref(), b"material");
    }
}

/// A module that passes everything to SoftHSM, and replaces the IV of AES-GCM in `C_EncryptInit`, as some HSMs do (FIPS 140
/// lets no caller choose it).
const OWN_IV: &str = r#"
#include <dlfcn.h>
#include <string.h>
typedef unsigned long ulong;
struct mechanism { ulong kind; void *parameter; ulong length; };
struct gcm { unsigned char *iv; ulong iv_length; };
static void *list[69];
static ulong (*encrypt_init)(ulong, struct mechanism *, ulong);
static unsigned char next = 0x80;
static ulong own_encrypt_init(ulong session, struct mechanism *mechanism, ulong key) {
    if (mechanism->kind == 0x1087) {
        struct gcm *gcm = mechanism->parameter;
        memset(gcm->iv, next++, gcm->iv_length);
    }
    return encrypt_init(session, mechanism, key);
}
ulong C_GetFunctionList(void **out) {
    void *library = dlopen(SOFTHSM, RTLD_NOW | RTLD_LOCAL), *own;
    ulong (*get)(void **) = (ulong (*)(void **))dlsym(library, "C_GetFunctionList");
    ulong rv = get(&own);
    memcpy(list, own, sizeof list);
    encrypt_init = (ulong (*)(ulong, struct mechanism *, ulong))list[1 + 29];
    list[1 + 29] = (void *)own_encrypt_init;
    *out = list;
    return rv;
}
"#;

#[test]
fn an_hsm_that_replaces_the_iv_unwraps_what_it_wrapped() {
    let Some(config) = config("an_hsm_that_replaces_the_iv_unwraps_what_it_wrapped") else { return };
    let folder = config.pin_file.parent().unwrap();
    let (source, module) = (folder.join("own_iv.c"), folder.join("own_iv.so"));
    std::fs::write(&source, OWN_IV).unwrap();
    let softhsm = format!("-DSOFTHSM={:?}", config.module);
    let mut compiler = std::process::Command::new("cc");
    compiler
        .args(["-shared", "-fPIC", "-Wall", "-Werror", &softhsm, "-o"])
        .arg(&module)
        .arg(&source)
        .arg("-ldl");
    assert!(compiler.status().unwrap().success());
    let hsm = Hsm::open(&HsmConfig { module, ..config }).unwrap();
    hsm.create_master(FIRST).unwrap();
    let wrapped = hsm.wrap(FIRST, b"identity", b"material").unwrap();
    assert_eq!(wrapped[..12], [wrapped[0]; 12], "the IV is the HSM's");
    assert_eq!(hsm.unwrap(FIRST, b"identity", &wrapped).unwrap().as_ref(), b"material");
    hsm.alive().unwrap();
}

#[test]
fn many_callers_share_a_few_sessions() {
    let Some(config) = config("many_callers_share_a_few_sessions") else { return };
    let hsm = Hsm::open(&config).unwrap();
    hsm.create_master(FIRST).unwrap();
    let start = Barrier::new(16);
    std::thread::scope(|scope| {
        for caller in 0..16_u8 {
            let (hsm, start) = (hsm.clone(), &start);
            scope.spawn(move || {
                start.wait();
                for number in 0..50_u8 {
                    let wrapped = hsm.wrap(FIRST, &[caller], &[number; 32]).unwrap();
                    assert_eq!(hsm.unwrap(FIRST, &[caller], &wrapped).unwrap().as_ref(), [number; 32]);
                }
            });
        }
    });
}

#[test]
#[ignore = "a measurement, not a test"]
#[expect(clippy::disallowed_methods, reason = "a measurement")]
fn cost() {
    let Some(config) = config("cost") else { return };
    let hsm = Hsm::open(&config).unwrap();
    hsm.create_master(FIRST).unwrap();
    let start = std::time::Instant::now();
    for _ in 0..2000 {
        hsm.wrap(FIRST, b"identity", &[1; 32]).unwrap();
    }
    println!("wrap: {:?}", start.elapsed() / 2000);
    let wrapped = hsm.wrap(FIRST, b"identity", &[1; 32]).unwrap();
    let start = std::time::Instant::now();
    for _ in 0..2000 {
        hsm.unwrap(FIRST, b"identity", &wrapped).unwrap();
    }
    println!("unwrap: {:?}", start.elapsed() / 2000);
}

#[test]
fn a_counter_grows_only_and_belongs_to_one_home() {
    let Some(config) = config("a_counter_grows_only_and_belongs_to_one_home") else { return };
    let hsm = Hsm::open(&config).unwrap();
    let (one, two) = ([1; 16], [2; 16]);
    assert_eq!(hsm.counter(one).unwrap(), None);
    hsm.count_to(one, 1).unwrap();
    hsm.count_to(one, 7).unwrap();
    hsm.count_to(one, 3).unwrap();
    assert_eq!(hsm.counter(one).unwrap(), Some(7));
    assert_eq!(hsm.counter(two).unwrap(), None);
    hsm.count_to(two, u64::MAX).unwrap();
    assert_eq!(Hsm::open(&config).unwrap().counter(one).unwrap(), Some(7));
    // Commands and the daemon count at the same time: no number is lost, and none is lowered.
    let others: Vec<_> = (0..4).map(|_| Hsm::open(&config).unwrap()).collect();
    std::thread::scope(|scope| {
        for (hsm, first) in others.iter().zip(0..) {
            scope.spawn(move || (0..20).for_each(|round| hsm.count_to(one, 8 + round * 4 + first).unwrap()));
        }
    });
    assert_eq!(hsm.counter(one).unwrap(), Some(8 + 19 * 4 + 3));
}

#[test]
#[ignore = "measures; run it alone"]
fn the_cost_of_counting() {
    let Some(config) = config("the_cost_of_counting") else { return };
    let hsm = Hsm::open(&config).unwrap();
    #[expect(clippy::disallowed_methods, reason = "a measurement")]
    let begun = std::time::Instant::now();
    (1..=200).for_each(|number| hsm.count_to([1; 16], number).unwrap());
    println!("{} microseconds for one step", begun.elapsed().as_micros() / 200);
}

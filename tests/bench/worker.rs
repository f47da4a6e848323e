//! The worker process: loads one module, generates the keys, and measures the rows that it is given. Buffers are on the
//! stack and have the exact size, so that the time is the module's and not the benchmark's.
#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::Context;
use cryptoki_sys::{
    CK_ATTRIBUTE, CK_GCM_PARAMS, CK_MECHANISM, CK_MECHANISM_TYPE, CK_OBJECT_HANDLE, CKA_CLASS, CKA_DECRYPT,
    CKA_EC_PARAMS, CKA_ENCRYPT, CKA_ID, CKA_KEY_TYPE, CKA_LABEL, CKA_MODULUS_BITS, CKA_PUBLIC_EXPONENT,
    CKA_SIGN, CKA_TOKEN, CKA_VALUE_LEN, CKA_VERIFY, CKF_OS_LOCKING_OK, CKF_RW_SESSION, CKF_SERIAL_SESSION,
    CKG_GENERATE_RANDOM, CKM_AES_GCM, CKM_AES_KEY_GEN, CKM_EC_KEY_PAIR_GEN, CKM_ECDSA,
    CKM_RSA_PKCS_KEY_PAIR_GEN, CKM_SHA256_RSA_PKCS,
};
use kms_protocol::Rv;
use kms_tests::call;
use kms_tests::raw::{Direction, Mechanism, Messages, Module, Session, Template, arguments};

use crate::row::Row;

/// The number of keys that `Row::Find` searches.
const MANY: usize = 1000;

const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

struct Keys {
    aes: CK_OBJECT_HANDLE,
    rsa2048: CK_OBJECT_HANDLE,
    rsa4096: CK_OBJECT_HANDLE,
    p256: CK_OBJECT_HANDLE,
}

/// Reads commands, `row threads milliseconds`, and writes nanoseconds per operation for each.
pub(crate) fn serve(path: &Path) -> anyhow::Result<()> {
    let module = Module::load(path);
    // With OS locking, because SoftHSM takes no locks otherwise.
    module.initialize_with(&mut arguments(CKF_OS_LOCKING_OK))?;
    let session = module.user("test");
    let keys = Keys {
        aes: session.generate(Mechanism::plain(CKM_AES_KEY_GEN), aes(b"aes"))?,
        rsa2048: rsa(&session, 2048)?,
        rsa4096: rsa(&session, 4096)?,
        p256: ec(&session)?,
    };
    let mut many_keys_exist = false;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let mut fields = line.split_whitespace();
        let row = fields.next().and_then(Row::of).context("a row")?;
        let threads: usize = fields.next().context("threads")?.parse()?;
        let time = Duration::from_millis(fields.next().context("milliseconds")?.parse()?);
        if row == Row::Find && !many_keys_exist {
            for number in 0..MANY {
                let label = format!("many-{number}");
                session.generate(Mechanism::plain(CKM_AES_KEY_GEN), aes(label.as_bytes()))?;
            }
            many_keys_exist = true;
        }
        let result = measure(&module, &keys, row, threads, time)?;
        println!("{result}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// Runs a row on several threads, each with its own session; all start together. Returns nanoseconds per operation.
fn measure(module: &Module, keys: &Keys, row: Row, threads: usize, time: Duration) -> anyhow::Result<f64> {
    let (start, slot) = (Barrier::new(threads), module.slot("test"));
    let results = std::thread::scope(|scope| {
        let run = |thread: usize| {
            let start = &start;
            scope.spawn(move || {
                let session = module.open(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION)?;
                start.wait();
                let counted = count(&session, keys, row, thread, time);
                session.close()?;
                counted
            })
        };
        let running: Vec<_> = (0..threads).map(run).collect();
        running
            .into_iter()
            .map(|thread| thread.join().expect("no panic in a worker"))
            .collect::<Result<Vec<_>, Rv>>()
    })?;
    // The sum of the threads' rates, each over the thread's own time.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let rates = results.iter().map(|(operations, spent)| *operations as f64 / spent.as_secs_f64());
    Ok(1e9 / rates.sum::<f64>())
}

/// Runs a row for `time`; returns the number of operations and the time that they took.
fn count(
    session: &Session<'_>,
    keys: &Keys,
    row: Row,
    thread: usize,
    time: Duration,
) -> Result<(u64, Duration), Rv> {
    let mut nonce = [0; 12];
    nonce[0] = u8::try_from(thread).expect("few threads");
    let mut counter = 0_u64;
    let messages = session.module.messages().filter(|_| row == Row::Message);
    if let Some(messages) = messages {
        messages.begin(Direction::Encrypt, session, keys.aes)?;
    }
    let mut operation = || -> Result<Option<CK_OBJECT_HANDLE>, Rv> {
        counter += 1;
        match row {
            Row::Gcm => {
                nonce[4..].copy_from_slice(&counter.to_be_bytes());
                gcm(session, keys.aes, &mut nonce)?;
            }
            Row::Message => message(session, messages.ok_or(Rv::FUNCTION_NOT_SUPPORTED)?)?,
            Row::Rsa2048 => sign::<256>(session, CKM_SHA256_RSA_PKCS, keys.rsa2048)?,
            Row::Rsa4096 => sign::<512>(session, CKM_SHA256_RSA_PKCS, keys.rsa4096)?,
            Row::P256 => sign::<64>(session, CKM_ECDSA, keys.p256)?,
            Row::Attributes => attributes(session, keys.aes)?,
            Row::Generate => {
                return session.generate(Mechanism::plain(CKM_AES_KEY_GEN), aes(b"new")).map(Some);
            }
            Row::GenerateSession => {
                let template = named(b"new").bool(CKA_TOKEN, false);
                return session.generate(Mechanism::plain(CKM_AES_KEY_GEN), template).map(Some);
            }
            Row::Find => find(session, counter)?,
        }
        Ok(None)
    };
    let (mut operations, mut generated) = (0, Vec::new());
    let started = Instant::now();
    while started.elapsed() < time {
        generated.extend(operation()?);
        operations += 1;
    }
    let spent = started.elapsed();
    if let Some(messages) = messages {
        messages.end(Direction::Encrypt, session)?;
    }
    // Not measured: restores the token's contents for the next round.
    for key in generated {
        session.destroy(key)?;
    }
    Ok((operations, spent))
}

fn gcm(session: &Session<'_>, key: CK_OBJECT_HANDLE, nonce: &mut [u8; 12]) -> Result<(), Rv> {
    let (mut data, mut sealed, mut length) = ([0x5a_u8; 1024], [0_u8; 1040], 1040);
    let mut parameters = CK_GCM_PARAMS {
        pIv: nonce.as_mut_ptr(),
        ulIvLen: 12,
        ulIvBits: 96,
        ulTagBits: 128,
        ..CK_GCM_PARAMS::default()
    };
    let mut mechanism =
        CK_MECHANISM { mechanism: CKM_AES_GCM, pParameter: (&raw mut parameters).cast(), ulParameterLen: 48 };
    call!(session.module, C_EncryptInit(session.handle, &raw mut mechanism, key))?;
    let (input, output) = (data.as_mut_ptr(), sealed.as_mut_ptr());
    call!(session.module, C_Encrypt(session.handle, input, 1024, output, &raw mut length))
}

fn sign<const BYTES: usize>(
    session: &Session<'_>,
    kind: CK_MECHANISM_TYPE,
    key: CK_OBJECT_HANDLE,
) -> Result<(), Rv> {
    let (mut data, mut signature, mut length) = ([0x5a_u8; 32], [0_u8; BYTES], BYTES as u64);
    let mut mechanism = CK_MECHANISM { mechanism: kind, ..CK_MECHANISM::default() };
    call!(session.module, C_SignInit(session.handle, &raw mut mechanism, key))?;
    let (input, output) = (data.as_mut_ptr(), signature.as_mut_ptr());
    call!(session.module, C_Sign(session.handle, input, 32, output, &raw mut length))
}

fn attributes(session: &Session<'_>, key: CK_OBJECT_HANDLE) -> Result<(), Rv> {
    let mut values = [[0_u8; 64]; 5];
    let kinds = [CKA_CLASS, CKA_KEY_TYPE, CKA_LABEL, CKA_ID, CKA_VALUE_LEN];
    let mut index = 0;
    let mut list = values.each_mut().map(|value| {
        let attribute =
            CK_ATTRIBUTE { type_: kinds[index], pValue: value.as_mut_ptr().cast(), ulValueLen: 64 };
        index += 1;
        attribute
    });
    call!(session.module, C_GetAttributeValue(session.handle, key, list.as_mut_ptr(), 5))
}

fn find(session: &Session<'_>, counter: u64) -> Result<(), Rv> {
    let number = usize::try_from(counter).expect("a count fits") * 7 % MANY;
    let mut label = format!("many-{number}").into_bytes();
    let mut list = [CK_ATTRIBUTE {
        type_: CKA_LABEL,
        pValue: label.as_mut_ptr().cast(),
        ulValueLen: label.len() as u64,
    }];
    let (mut found, mut count) = ([0; 2], 0);
    call!(session.module, C_FindObjectsInit(session.handle, list.as_mut_ptr(), 1))?;
    call!(session.module, C_FindObjects(session.handle, found.as_mut_ptr(), 2, &raw mut count))?;
    call!(session.module, C_FindObjectsFinal(session.handle))?;
    assert_eq!(count, 1, "one key has the label");
    Ok(())
}

fn message(session: &Session<'_>, messages: Messages) -> Result<(), Rv> {
    let (mut iv, mut tag, mut sealed) = ([0; 12], [0; 16], [0; 1024]);
    let nonce = (&mut iv[..], CKG_GENERATE_RANDOM);
    messages.message(Direction::Encrypt, session, nonce, &mut tag, &[0x5a; 1024], &mut sealed)
}

fn aes(label: &[u8]) -> Template {
    named(label).bool(CKA_TOKEN, true)
}

fn named(label: &[u8]) -> Template {
    let template = Template::new().ulong(CKA_VALUE_LEN, 32).bytes(CKA_LABEL, label);
    template.bool(CKA_ENCRYPT, true).bool(CKA_DECRYPT, true).bytes(CKA_ID, label)
}

fn rsa(session: &Session<'_>, bits: u64) -> Result<CK_OBJECT_HANDLE, Rv> {
    let public = Template::new().bool(CKA_TOKEN, true).bool(CKA_VERIFY, true).ulong(CKA_MODULUS_BITS, bits);
    let public = public.bytes(CKA_PUBLIC_EXPONENT, &[1, 0, 1]);
    let private = Template::new().bool(CKA_TOKEN, true).bool(CKA_SIGN, true);
    session
        .generate_pair(Mechanism::plain(CKM_RSA_PKCS_KEY_PAIR_GEN), public, private)
        .map(|(_, private)| private)
}

fn ec(session: &Session<'_>) -> Result<CK_OBJECT_HANDLE, Rv> {
    let public = Template::new().bool(CKA_TOKEN, true).bool(CKA_VERIFY, true).bytes(CKA_EC_PARAMS, P256);
    let private = Template::new().bool(CKA_TOKEN, true).bool(CKA_SIGN, true);
    session.generate_pair(Mechanism::plain(CKM_EC_KEY_PAIR_GEN), public, private).map(|(_, private)| private)
}

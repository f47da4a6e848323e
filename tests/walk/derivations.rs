//! Steps that know the equations between derivations and MACs: HKDF (RFC 5869) and the KDFs of SP 800-108 are made of
//! HMAC and AES-CMAC. The walk imports base keys, so that it knows what is derived from them; the derived values are
//! protected, and the walk asks keys for the MACs that these values are.

use aws_lc_rs::{cmac, hmac};
use cryptoki_sys::{
    CKA_CLASS, CKA_DERIVE, CKA_ENCRYPT, CKA_EXTRACTABLE, CKA_KEY_TYPE, CKA_SENSITIVE, CKA_SIGN, CKA_VALUE,
    CKA_VALUE_LEN, CKK_AES, CKK_GENERIC_SECRET, CKM_AES_CMAC, CKM_HKDF_DERIVE, CKM_SHA256, CKM_SHA256_HMAC,
    CKM_SP800_108_COUNTER_KDF, CKO_SECRET_KEY,
};
use kms_tests::raw::{Field, Mechanism, Template};

use crate::walk::{Violation, Walk};

/// A derivation: its mechanism, the message whose MAC is the derived value, and how the MAC's key is computed from the
/// base key.
struct Derivation {
    mechanism: Mechanism,
    message: Vec<u8>,
    extracts: bool,
    expands: bool,
    by_cmac: bool,
}

impl Walk<'_> {
    /// One step of a walk that only derives and signs.
    pub(crate) fn derivation_step(&mut self) -> Result<(), Violation> {
        match self.rng.below(4) {
            0 => self.import_base(),
            1 => self.derive_known(),
            _ => self.ask_for_a_derived_value(),
        }
    }

    /// Imports a base key with a value that the walk knows.
    fn import_base(&mut self) -> Result<(), Violation> {
        let kind = self.rng.choose(&[CKK_AES, CKK_GENERIC_SECRET]);
        let value = self.rng.bytes(32);
        let mut template = Template::new()
            .ulong(CKA_CLASS, CKO_SECRET_KEY)
            .ulong(CKA_KEY_TYPE, kind)
            .bytes(CKA_VALUE, &value)
            .bool(CKA_DERIVE, true)
            .bool(CKA_SENSITIVE, true);
        for other in [CKA_SIGN, CKA_ENCRYPT] {
            template = template.bool(other, self.rng.one_in(2));
        }
        let Some(handle) = self.record(self.session.create(template)) else { return Ok(()) };
        self.ledger.protect(&value);
        self.known_values.insert(handle, value);
        self.track("imported", handle, true)
    }

    /// Derives from a key whose value the walk knows, or from one that it imports for this.
    pub(crate) fn derive_known(&mut self) -> Result<(), Violation> {
        let base = self.object_with(CKA_DERIVE);
        let Some(value) = self.known_values.get(&base.handle).cloned() else { return self.import_base() };
        let is_aes = self.number(base, CKA_KEY_TYPE) == Some(CKK_AES);
        let derivation = self.known_derivation(is_aes);
        let (template, _) = self.secret();
        let mut template = template.ulong(CKA_VALUE_LEN, 32).bool(CKA_SENSITIVE, true);
        for other in [CKA_DERIVE, CKA_SIGN, CKA_ENCRYPT, CKA_EXTRACTABLE] {
            template = template.bool(other, self.rng.one_in(2));
        }
        let derived = self.session.derive(derivation.mechanism.clone(), base.handle, template);
        let Some(derived) = self.record(derived) else { return Ok(()) };
        let hmac = |key: &[u8], message: &[u8]| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref().to_vec()
        };
        let key = if derivation.extracts { hmac(&[], &value) } else { value };
        let value = match (derivation.expands, derivation.by_cmac) {
            (false, _) => key,
            (true, false) => hmac(&key, &derivation.message),
            (true, true) => {
                let aes = if key.len() == 16 { cmac::AES_128 } else { cmac::AES_256 };
                let key = cmac::Key::new(aes, &key).expect("an AES key");
                let block = |counter: u8| {
                    let message = [&[0, 0, 0, counter][..], &derivation.message[4..]].concat();
                    cmac::sign(&key, &message).expect("a MAC").as_ref().to_vec()
                };
                [block(1), block(2)].concat()
            }
        };
        self.derivation_messages.push(derivation.message);
        if base.protected {
            self.ledger.protect(&value);
            self.counts.computed += 1;
        }
        self.known_values.insert(derived, value);
        self.track("derived from a known value", derived, base.protected)
    }

    fn known_derivation(&mut self, is_aes: bool) -> Derivation {
        let info = self.rng.bytes(16);
        let none = || vec![Field::Number(0), Field::Number(0)];
        if is_aes || self.rng.one_in(3) {
            // Counter mode: a counter of 32 bits, then the data.
            let format = Field::Structure(vec![Field::Number(0), Field::Number(32)]);
            let data = Field::Bytes(info.clone());
            let parts = vec![Field::Number(1), format, Field::Number(16), Field::Number(4), data];
            let prf = Field::Number(if is_aes { CKM_AES_CMAC } else { CKM_SHA256_HMAC });
            let kdf = vec![prf, Field::Number(2), Field::Structure(parts)];
            let mechanism = Mechanism::fields(CKM_SP800_108_COUNTER_KDF, [kdf, none()].concat());
            let message = [&[0, 0, 0, 1][..], &info].concat();
            return Derivation { mechanism, message, extracts: false, expands: true, by_cmac: is_aes };
        }
        // `bExtract` and `bExpand` are the first two bytes.
        let (steps, extracts, expands) =
            self.rng.choose(&[(0x0001, true, false), (0x0100, false, true), (0x0101, true, true)]);
        let no_salt = vec![Field::Number(CKM_SHA256), Field::Number(1), Field::Bytes(vec![])];
        let fields =
            [vec![Field::Number(steps)], no_salt, vec![Field::Number(0), Field::Bytes(info.clone())]];
        let mechanism = Mechanism::fields(CKM_HKDF_DERIVE, fields.concat());
        Derivation { mechanism, message: [&info[..], &[1]].concat(), extracts, expands, by_cmac: false }
    }

    /// Asks keys that sign for the MACs that derived keys are made of.
    pub(crate) fn ask_for_a_derived_value(&mut self) -> Result<(), Violation> {
        if self.derivation_messages.is_empty() {
            return Ok(());
        }
        for _ in 0..4 {
            let at = self.rng.below(self.derivation_messages.len());
            let message = self.derivation_messages[at].clone();
            let by = self.object_with(CKA_SIGN);
            for mechanism in [CKM_SHA256_HMAC, CKM_AES_CMAC] {
                let mac = self.record(self.session.sign(Mechanism::plain(mechanism), by.handle, &message));
                self.counts.asked += usize::from(mac.is_some());
                self.check_output("C_Sign", &mac.unwrap_or_default())?;
            }
        }
        Ok(())
    }
}

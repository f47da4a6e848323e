//! Requests, mechanisms and attributes that several of these tests use.

use kms_protocol::AttributeType as A;
use kms_protocol::{Kdf, Salt};

use super::*;

impl Fixture {
    /// Sends a request whose response is an object.
    pub(super) fn object(&mut self, request: Request) -> Result<ObjectView, Rv> {
        let response = self.send(request)?;
        let Response::Object(view) = response else { panic!("{response:?}") };
        Ok(view)
    }

    pub(super) fn create(&mut self, template: &[Attribute]) -> Result<ObjectView, Rv> {
        self.object(Request::Create { template: Template(template.to_vec()) })
    }

    pub(super) fn copy(&mut self, object: &ObjectRef, template: &[Attribute]) -> Result<ObjectView, Rv> {
        self.object(Request::Copy { object: object.clone(), template: Template(template.to_vec()) })
    }

    pub(super) fn set(&mut self, object: &ObjectRef, template: &[Attribute]) -> Result<ObjectView, Rv> {
        self.object(Request::SetAttributes { object: object.clone(), template: Template(template.to_vec()) })
    }

    pub(super) fn reveal(&mut self, object: &ObjectRef) -> Result<Template, Rv> {
        let response = self.send(Request::Reveal { object: object.clone() })?;
        let Response::Revealed(secrets) = response else { panic!("{response:?}") };
        Ok(secrets)
    }

    pub(super) fn wrap(
        &mut self,
        mechanism: Mechanism,
        wrapping: &ObjectRef,
        key: &ObjectRef,
    ) -> Result<Secret, Rv> {
        self.send(Request::Wrap { mechanism, wrapping: wrapping.clone(), key: key.clone() }).map(bytes)
    }

    pub(super) fn unwrap(
        &mut self,
        mechanism: Mechanism,
        unwrapping: &ObjectRef,
        wrapped: &Secret,
        template: &[Attribute],
    ) -> Result<ObjectView, Rv> {
        let (unwrapping, wrapped) = (unwrapping.clone(), wrapped.clone());
        self.object(Request::Unwrap { mechanism, unwrapping, wrapped, template: Template(template.to_vec()) })
    }

    pub(super) fn derive(
        &mut self,
        mechanism: Mechanism,
        base: &ObjectRef,
        template: &[Attribute],
    ) -> Result<ObjectView, Rv> {
        self.object(Request::Derive { mechanism, base: base.clone(), template: Template(template.to_vec()) })
    }

    /// Generates an AES-256 key.
    pub(super) fn generate(&mut self, template: &[Attribute]) -> ObjectView {
        let length = Attribute::ulong(A::VALUE_LEN, 32);
        self.generate_with(MechanismType::AES_KEY_GEN, [template, &[length]].concat())
    }

    /// Generates a generic secret to derive from.
    pub(super) fn base(&mut self, template: &[Attribute]) -> ObjectView {
        let own = [Attribute::ulong(A::VALUE_LEN, 32), yes(A::DERIVE)];
        self.generate_with(MechanismType::GENERIC_SECRET_KEY_GEN, [template, &own].concat())
    }

    /// Generates an RSA-2048 pair.
    pub(super) fn rsa(&mut self, public: &[Attribute], private: &[Attribute]) -> (ObjectView, ObjectView) {
        let bits = Attribute::ulong(A::MODULUS_BITS, 2048);
        let request = Request::GeneratePair {
            mechanism: Mechanism::plain(MechanismType::RSA_PKCS_KEY_PAIR_GEN),
            public: Template([public, &[bits]].concat()),
            private: Template(private.to_vec()),
        };
        let response = self.send(request).unwrap();
        let Response::Pair { public, private } = response else { panic!("{response:?}") };
        (public, private)
    }
}

pub(super) fn yes(kind: A) -> Attribute {
    Attribute::bool(kind, true)
}

pub(super) fn no(kind: A) -> Attribute {
    Attribute::bool(kind, false)
}

pub(super) fn kwp() -> Mechanism {
    Mechanism::plain(MechanismType::AES_KEY_WRAP_KWP)
}

pub(super) fn oaep() -> Mechanism {
    let (hash, mgf) = (MechanismType::SHA256, kms_protocol::Mgf::SHA256);
    let parameters = Parameters::Oaep { hash, mgf, label: Secret::default() };
    Mechanism { kind: MechanismType::RSA_PKCS_OAEP, parameters }
}

pub(super) fn hkdf(info: &[u8]) -> Mechanism {
    let (extract, expand, hash) = (true, true, MechanismType::SHA256);
    let parameters = Parameters::Hkdf { extract, expand, hash, salt: Salt::None, info: Secret::from(info) };
    Mechanism { kind: MechanismType::HKDF_DERIVE, parameters }
}

pub(super) fn ecdh(public: &[u8]) -> Mechanism {
    let (kdf, shared, public) = (Kdf::NULL, Secret::default(), Secret::from(public));
    let parameters = Parameters::Ecdh { kdf, shared, public };
    Mechanism { kind: MechanismType::ECDH1_DERIVE, parameters }
}

/// The class and type of a secret key.
pub(super) fn secret(kind: KeyType) -> [Attribute; 2] {
    let class = u64::from(ObjectClass::SECRET_KEY.0);
    [Attribute::ulong(A::CLASS, class), Attribute::ulong(A::KEY_TYPE, u64::from(kind.0))]
}

//! Keys with `CKA_ALWAYS_AUTHENTICATE`: a context-specific login gives a proof, and each use burns one.

use kms_core::object::{Caller, Login};
use kms_core::policy::{self, PROOF_SECONDS, Usage, UseClaims};
use kms_protocol::{Mechanism, ObjectRef, Response, Role, Rv, Secret};
use kms_store::Ring;

use crate::dispatch::Dispatch;
use crate::dispatch::accounts::login as account_login;
use crate::dispatch::open_key::PermittedKey;
use crate::error::Error;

impl Dispatch {
    /// Checks the PIN of the caller's login again, and returns a proof for one use of a key.
    pub(in crate::dispatch) fn prove_use(
        &self,
        ring: &Ring,
        caller: &Caller,
        key: &ObjectRef,
        pin: &[u8],
    ) -> Result<Response, Error> {
        let login = caller.login.as_ref().ok_or(Rv::USER_NOT_LOGGED_IN)?;
        let object = self.load_key(ring, caller, key, Rv::KEY_HANDLE_INVALID)?;
        if !policy::needs_proof(&object) {
            return Err(Rv::OPERATION_NOT_INITIALIZED.into());
        }
        // The ticket that it returns is the login's own, and not sent.
        self.log_in(ring, caller, Role::Context, pin)?;
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(Error::Random)?;
        let claims = UseClaims {
            ring: ring.id,
            name: login.name.clone(),
            generation: self.generation_of(ring, login)?,
            uid: caller.peer.map(|peer| peer.uid),
            key: policy::key_digest(key),
            expires: self.clock.seconds() + PROOF_SECONDS,
            nonce,
        };
        Ok(Response::Proof(policy::issue_proof(&self.tickets, &claims)))
    }

    pub(in crate::dispatch) fn sign_proven(
        &self,
        ring: &Ring,
        caller: &Caller,
        key: &ObjectRef,
        mechanism: &Mechanism,
        (data, proof): (&[u8], &Secret),
    ) -> Result<Response, Error> {
        let PermittedKey { permit, key, .. } =
            self.open_proven(ring, caller, Usage::Sign, key, mechanism, proof)?;
        Ok(Response::Bytes(kms_crypto::sign(&permit, &key, mechanism, data)?))
    }

    pub(in crate::dispatch) fn decrypt_proven(
        &self,
        ring: &Ring,
        caller: &Caller,
        key: &ObjectRef,
        mechanism: &Mechanism,
        (data, proof): (&[u8], &Secret),
    ) -> Result<Response, Error> {
        let PermittedKey { permit, key, .. } =
            self.open_proven(ring, caller, Usage::Decrypt, key, mechanism, proof)?;
        Ok(Response::Bytes(kms_crypto::decrypt(&permit, &key, mechanism, data)?))
    }

    /// Opens a private key for the one use that a proof is for, and records the use.
    fn open_proven(
        &self,
        ring: &Ring,
        caller: &Caller,
        usage: Usage,
        key: &ObjectRef,
        mechanism: &Mechanism,
        proof: &[u8],
    ) -> Result<PermittedKey, Error> {
        mechanism.check()?;
        let login = caller.login.as_ref().ok_or(Rv::USER_NOT_LOGGED_IN)?;
        let object = self.load_key(ring, caller, key, usage.handle_invalid())?;
        if !policy::needs_proof(&object) {
            return Err(Rv::KEY_FUNCTION_NOT_PERMITTED.into());
        }
        let (now, uid) = (self.clock.seconds(), caller.peer.map(|peer| peer.uid));
        let claims = policy::check_proof(&self.tickets, proof, now, uid)?;
        if claims.generation != self.generation_of(ring, login)? {
            return Err(Rv::USER_NOT_LOGGED_IN.into());
        }
        let permit = policy::permit_proven(caller, usage, mechanism, &object, key, &claims)?;
        // Before the key is opened: whatever fails after this, the proof is used up.
        if !self.store.burn_proof(claims.nonce, claims.expires, now)? {
            return Err(Rv::USER_NOT_LOGGED_IN.into());
        }
        let opened = self.open_permitted(object, permit)?;
        self.record_opened(ring, caller, usage, &opened)?;
        Ok(opened)
    }

    /// The generation that ends a login when it changes.
    fn generation_of(&self, ring: &Ring, login: &Login) -> Result<u64, Error> {
        if let Some(account) = account_login::account_id(&login.name) {
            return Ok(self.store.member(account)?.ok_or(Rv::USER_NOT_LOGGED_IN)?.generation);
        }
        Ok(self.store.principal(ring.id, &login.name)?.ok_or(Rv::USER_NOT_LOGGED_IN)?.generation)
    }
}

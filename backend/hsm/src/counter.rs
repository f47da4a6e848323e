//! A number in the token that only grows: one private data object for each home. A database that has counted less is an
//! old copy (docs/decisions/0047).

use cryptoki::error::{Error as Cryptoki, RvError};
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};

use crate::error::HsmError;
use crate::hsm::Hsm;
use crate::token::Token;

/// What the label of a counter begins with; the home's id follows in hexadecimal digits.
const LABEL: &str = "kms-counter-";

/// How often the objects are read while others replace them.
const READS_MAX: u32 = 100;

/// How often it is tried to create an object while others write to the token.
const CREATIONS_MAX: u32 = 20;

fn template(home: [u8; 16]) -> Vec<Attribute> {
    let digits: String = home.iter().map(|byte| format!("{byte:02x}")).collect();
    vec![
        Attribute::Class(ObjectClass::DATA),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Label(format!("{LABEL}{digits}").into_bytes()),
    ]
}

impl Token {
    /// The objects of a home's counter with their numbers, the highest last. There are two while one takes the place of the
    /// other, and after a crash in between.
    fn counters(&self, home: [u8; 16]) -> Result<Vec<(u64, ObjectHandle)>, HsmError> {
        let mut left = READS_MAX;
        loop {
            left -= 1;
            match self.read_counters(home) {
                // Another process has replaced the object meanwhile: there is a higher one now.
                Err(Cryptoki::Pkcs11(RvError::ObjectHandleInvalid, _)) if left > 0 => {}
                read => return Ok(read?),
            }
        }
    }

    fn read_counters(&self, home: [u8; 16]) -> Result<Vec<(u64, ObjectHandle)>, Cryptoki> {
        let mut counters = Vec::new();
        for object in self.session.find_objects(&template(home))? {
            for attribute in self.session.get_attributes(object, &[AttributeType::Value])? {
                if let Attribute::Value(value) = attribute
                    && let Ok(number) = <[u8; 8]>::try_from(value.as_slice())
                {
                    counters.push((u64::from_be_bytes(number), object));
                }
            }
        }
        counters.sort_unstable_by_key(|(number, _)| *number);
        Ok(counters)
    }

    /// Sets the counter to at least this number.
    fn count_to(&self, home: [u8; 16], number: u64) -> Result<(), HsmError> {
        // Without a login the counters are invisible rather than an error.
        let counters = if self.find(&template(home))?.is_empty() { Vec::new() } else { self.counters(home)? };
        let value = Attribute::Value(number.to_be_bytes().to_vec());
        let Some((highest, object)) = counters.last() else { return self.create_counter(home, value) };
        if *highest >= number {
            return Ok(());
        }
        match self.session.update_attributes(*object, std::slice::from_ref(&value)) {
            Ok(()) => {}
            // A token whose data objects cannot be changed: the next one takes the place of this.
            Err(Cryptoki::Pkcs11(
                RvError::ActionProhibited | RvError::AttributeReadOnly | RvError::TemplateInconsistent,
                _,
            )) => {
                self.create_counter(home, value)?;
                // Each is lower than the new one, so that one that stays is harmless. Another process may have removed it.
                for (_, object) in counters {
                    if let Err(error) = self.session.destroy_object(object) {
                        tracing::debug!(%error, "a former object of the counter was not removed");
                    }
                }
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn create_counter(&self, home: [u8; 16], value: Attribute) -> Result<(), HsmError> {
        let mut wanted = template(home);
        wanted.extend([Attribute::Modifiable(true), value]);
        let mut left = CREATIONS_MAX;
        loop {
            left -= 1;
            match self.session.create_object(&wanted) {
                // SoftHSM, while another process writes to the token.
                Err(Cryptoki::Pkcs11(RvError::GeneralError, _)) if left > 0 => std::thread::yield_now(),
                created => return Ok(created.map(drop)?),
            }
        }
    }
}

impl Hsm {
    /// Returns the number of a home's counter, if the token has one.
    ///
    /// # Errors
    /// When the HSM fails.
    pub fn counter(&self, home: [u8; 16]) -> Result<Option<u64>, HsmError> {
        let counters = self.on_token(move |token| {
            // Without a login the counters are invisible rather than an error.
            if token.find(&template(home))?.is_empty() { Ok(Vec::new()) } else { token.counters(home) }
        })?;
        Ok(counters.last().map(|(number, _)| *number))
    }

    /// Sets a home's counter to this number, and reads it back. A higher number stays.
    ///
    /// # Errors
    /// [`HsmError::NotCounted`] when the token has another number afterwards; others when the HSM fails.
    pub fn count_to(&self, home: [u8; 16], number: u64) -> Result<(), HsmError> {
        self.on_token(move |token| token.count_to(home, number))?;
        match self.counter(home)? {
            Some(found) if found >= number => Ok(()),
            Some(_) | None => Err(HsmError::NotCounted(number)),
        }
    }
}

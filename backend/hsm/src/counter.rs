//! A number in the token that only grows: one private data object for each home. A database that has counted less is an
//! old copy (docs/decisions/0047).

use std::time::Duration;

use cryptoki::context::Function;
use cryptoki::error::{Error as Cryptoki, RvError};
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};

use crate::error::HsmError;
use crate::hsm::Hsm;
use crate::token::Token;

/// What the label of a counter begins with; the home's id follows in hexadecimal digits.
const LABEL: &str = "kms-counter-";

/// How often a step is tried while other processes write to the token.
const TRIES_MAX: u32 = 40;

/// The wait after the first try; the others are longer, up to 32 ms.
const WAIT: Duration = Duration::from_millis(1);

fn label(home: [u8; 16]) -> String {
    let digits: String = home.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{LABEL}{digits}")
}

fn template(home: [u8; 16]) -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::DATA),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Label(label(home).into_bytes()),
    ]
}

/// Repeats what fails only because others write to the token at the same time.
fn settled<T>(step: impl Fn() -> Result<T, HsmError>) -> Result<T, HsmError> {
    let mut left = TRIES_MAX;
    loop {
        left -= 1;
        match step() {
            Err(error) if left > 0 && error.is_passing() => {
                std::thread::sleep(WAIT * 2u32.pow((TRIES_MAX - left - 1).min(5)));
            }
            done => return done,
        }
    }
}

impl Token {
    /// The objects of a home's counter with their numbers, the highest last. There are two while one takes the place of the
    /// other, and after a crash in between.
    fn counters(&self, home: [u8; 16]) -> Result<Vec<(u64, ObjectHandle)>, HsmError> {
        let mut counters = Vec::new();
        // `find` tells apart what is not there and what is invisible without a login.
        for object in self.find(&template(home))? {
            let attributes = self.session.get_attributes(object, &[AttributeType::Value])?;
            let Some(Attribute::Value(value)) = attributes.into_iter().next() else {
                // Its value is read no more: it was removed meanwhile.
                return Err(
                    Cryptoki::Pkcs11(RvError::ObjectHandleInvalid, Function::GetAttributeValue).into()
                );
            };
            let number =
                <[u8; 8]>::try_from(value.as_slice()).map_err(|_| HsmError::CounterDamaged(label(home)))?;
            counters.push((u64::from_be_bytes(number), object));
        }
        counters.sort_unstable_by_key(|(number, _)| *number);
        Ok(counters)
    }

    /// Sets the counter to at least this number.
    fn count_to(&self, home: [u8; 16], number: u64) -> Result<(), HsmError> {
        let counters = self.counters(home)?;
        if counters.last().is_some_and(|(highest, _)| *highest >= number) {
            return Ok(());
        }
        // A new object, not a new value: between a reading and a change in place another process may have counted further,
        // and the change would lower its number.
        let mut wanted = template(home);
        wanted.extend([Attribute::Modifiable(false), Attribute::Value(number.to_be_bytes().to_vec())]);
        self.session.create_object(&wanted)?;
        // Each is lower than the new one, so that one that stays is harmless. Another process may have removed it.
        for (_, object) in counters {
            if let Err(error) = self.session.destroy_object(object) {
                tracing::debug!(%error, "a former object of the counter was not removed");
            }
        }
        Ok(())
    }
}

impl Hsm {
    /// Returns the number of a home's counter, if the token has one.
    ///
    /// # Errors
    /// When the HSM fails.
    pub fn counter(&self, home: [u8; 16]) -> Result<Option<u64>, HsmError> {
        settled(|| self.read_counter(home))
    }

    fn read_counter(&self, home: [u8; 16]) -> Result<Option<u64>, HsmError> {
        let counters = self.on_token(move |token| token.counters(home))?;
        Ok(counters.last().map(|(number, _)| *number))
    }

    /// Sets a home's counter to this number, and reads it back. A higher number stays.
    ///
    /// # Errors
    /// [`HsmError::NotCounted`] when the token has another number afterwards; others when the HSM fails.
    pub fn count_to(&self, home: [u8; 16], number: u64) -> Result<(), HsmError> {
        settled(|| {
            self.on_token(move |token| token.count_to(home, number))?;
            match self.read_counter(home)? {
                Some(found) if found >= number => Ok(()),
                Some(_) | None => Err(HsmError::NotCounted(number)),
            }
        })
    }
}

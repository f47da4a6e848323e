//! Making keys (spec, "Key management functions"): the backend makes them; a session key comes back sealed and lives
//! in its session.

use kms_protocol::mechanism_table::Uses;
use kms_protocol::{AttributeType, Mechanism, ObjectView, Request, Response, Rv, Template};

use super::{object, unexpected};
use crate::module::Module;
use crate::session::usage;
use crate::session::{Asking, ObjectHandle, SessionHandle};

/// `C_GenerateKey`.
pub(crate) fn generate(
    module: &Module,
    session: SessionHandle,
    mechanism: Mechanism,
    template: Template,
) -> Result<ObjectHandle, Rv> {
    let asking = may_make(module, session, &mechanism, Uses::GENERATE, &[&template])?;
    let made = module.ask(&asking, Request::Generate { mechanism, template })?;
    let Response::Object(view) = made else { return unexpected() };
    let [handle] = note(module, session, &asking, [view])?;
    Ok(handle)
}

/// `C_GenerateKeyPair`: the public and the private half.
pub(crate) fn generate_pair(
    module: &Module,
    session: SessionHandle,
    mechanism: Mechanism,
    public: Template,
    private: Template,
) -> Result<(ObjectHandle, ObjectHandle), Rv> {
    let asking = may_make(module, session, &mechanism, Uses::GENERATE_PAIR, &[&public, &private])?;
    let made = module.ask(&asking, Request::GeneratePair { mechanism, public, private })?;
    let Response::Pair { public, private } = made else { return unexpected() };
    let [public, private] = note(module, session, &asking, [public, private])?;
    Ok((public, private))
}

fn may_make(
    module: &Module,
    session: SessionHandle,
    mechanism: &Mechanism,
    wanted: Uses,
    templates: &[&Template],
) -> Result<Asking, Rv> {
    let row = mechanism.check()?;
    let (asking, policy) = module.sessions(|sessions| {
        let policy = sessions.session(session)?.policy;
        Ok((sessions.asking(session)?, policy))
    })?;
    if !usage::uses(row, policy).has(wanted) {
        return Err(Rv::MECHANISM_INVALID);
    }
    let token = templates.iter().any(|template| template.bool(AttributeType::TOKEN) == Some(true));
    object::may_write(module, session, token)?;
    Ok(asking)
}

/// Gives new objects their handles. A session closed meanwhile has no room for session objects.
fn note<const N: usize>(
    module: &Module,
    session: SessionHandle,
    asking: &Asking,
    views: [ObjectView; N],
) -> Result<[ObjectHandle; N], Rv> {
    module.sessions(|sessions| {
        sessions.session(session)?;
        Ok(views.map(|view| sessions.objects.note(asking.slot, session, view)))
    })
}

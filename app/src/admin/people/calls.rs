//! Server functions: what administrators ask about people. Each finds out who asks, then asks the port.
#![allow(
    missing_docs,
    reason = "the macro makes a public struct of each function; its fields are the arguments"
)]

use super::{AuditFilter, AuditPage, LookPage, MadeLink, PeopleData, PersonData};
#[cfg(feature = "ssr")]
use super::{Leaving, NewInvitation};
use crate::account::{Role, UserId};
#[cfg(feature = "ssr")]
use crate::backend::{use_backend, use_viewer};
use crate::error::AppError;
use leptos::prelude::*;

/// A whole number as typed into a field.
#[cfg(feature = "ssr")]
fn number(field: &str, text: &str) -> Result<u32, AppError> {
    text.trim()
        .parse()
        .map_err(|_| AppError::invalid(field, "Give a whole number."))
}

/// Users, people who wait, invitations.
#[server(endpoint = "load_people")]
pub async fn load_people() -> Result<PeopleData, AppError> {
    let viewer = use_viewer()?;
    use_backend()?.people.people(&viewer).await
}

/// One user.
#[server(endpoint = "load_person")]
pub async fn load_person(id: UserId) -> Result<PersonData, AppError> {
    let viewer = use_viewer()?;
    use_backend()?.people.person(&viewer, id).await
}

/// Makes a link that lets people in.
#[server(endpoint = "invite")]
pub async fn invite(
    role: Role,
    days: String,
    uses: String,
    #[server(default)] note: String,
) -> Result<MadeLink, AppError> {
    let viewer = use_viewer()?;
    let new = NewInvitation {
        role,
        days: number("days", &days)?,
        uses: number("uses", &uses)?,
        note,
    };
    use_backend()?.people.invite(&viewer, new).await
}

/// Ends a link.
#[server(endpoint = "revoke_invitation")]
pub async fn revoke_invitation(id: i64) -> Result<(), AppError> {
    let viewer = use_viewer()?;
    use_backend()?.people.revoke_invitation(&viewer, id).await
}

/// Opens or closes the form by which people ask for an account.
#[server(endpoint = "set_self_sign_up")]
pub async fn set_self_sign_up(on: bool) -> Result<(), AppError> {
    let viewer = use_viewer()?;
    use_backend()?.people.set_self_sign_up(&viewer, on).await
}

/// Lets somebody in who waits since `asked_at`; without a role they are forgotten.
#[server(endpoint = "answer_sign_up")]
pub async fn answer_sign_up(
    id: UserId,
    asked_at: i64,
    #[server(default)] role: String,
) -> Result<(), AppError> {
    let viewer = use_viewer()?;
    let role = match role.as_str() {
        "" => None,
        word => Some(
            word.parse()
                .map_err(|()| AppError::invalid("role", "Choose one of admin, member, viewer."))?,
        ),
    };
    use_backend()?
        .people
        .answer_sign_up(&viewer, id, asked_at, role)
        .await
}

/// Gives a user another role.
#[server(endpoint = "set_user_role")]
pub async fn set_user_role(id: UserId, role: Role) -> Result<(), AppError> {
    let viewer = use_viewer()?;
    use_backend()?.people.set_role(&viewer, id, role).await
}

/// Makes a link by which a user sets a new password.
#[server(endpoint = "make_reset_link")]
pub async fn make_reset_link(id: UserId) -> Result<MadeLink, AppError> {
    let viewer = use_viewer()?;
    use_backend()?.people.make_reset_link(&viewer, id).await
}

/// Switches the second step of a user off.
#[server(endpoint = "end_two_step_of")]
pub async fn end_two_step_of(id: UserId) -> Result<(), AppError> {
    let viewer = use_viewer()?;
    use_backend()?.people.end_two_step_of(&viewer, id).await
}

/// Removes a user; answers the page to go on to.
#[server(endpoint = "remove_user")]
pub async fn remove_user(
    id: UserId,
    #[server(default)] heir: String,
    #[server(default)] erase: bool,
) -> Result<String, AppError> {
    let viewer = use_viewer()?;
    let leaving = match (heir.trim(), erase) {
        ("", true) => Leaving::Erase,
        (heir, false) if !heir.is_empty() => {
            Leaving::HandOver(UserId(heir.parse().map_err(|_| {
                AppError::invalid("heir", "Choose a user who takes the images over.")
            })?))
        }
        _ => {
            return Err(AppError::invalid(
                "heir",
                "Choose a user who takes the images over, or erase them.",
            ));
        }
    };
    use_backend()?.people.remove(&viewer, id, leaving).await?;
    crate::response::redirect_plain_form("/admin/people");
    Ok("/admin/people".into())
}

/// Allows administrators to look into others' images, or forbids it.
#[server(endpoint = "allow_looks")]
pub async fn allow_looks(on: bool) -> Result<(), AppError> {
    let viewer = use_viewer()?;
    use_backend()?.people.allow_looks(&viewer, on).await
}

/// A look into another's images.
#[server(endpoint = "look_at_images")]
pub async fn look_at_images(
    id: UserId,
    #[server(default)] after: String,
) -> Result<LookPage, AppError> {
    let viewer = use_viewer()?;
    let after = Some(after).filter(|after| !after.is_empty());
    use_backend()?
        .people
        .look(&viewer, id, after.as_deref())
        .await
}

/// A page of the audit log.
#[server(endpoint = "load_audit")]
pub async fn load_audit(filter: AuditFilter) -> Result<AuditPage, AppError> {
    let viewer = use_viewer()?;
    use_backend()?.people.audit(&viewer, filter).await
}

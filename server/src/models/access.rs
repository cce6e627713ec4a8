//! Who may see and use which model. A model that is not for somebody is in none of their lists, and a
//! request that names it is refused in words.

use super::{Model, Models};
use atelier_app::account::Role;
use atelier_app::error::AppError;
use std::collections::BTreeMap;

/// The least role for each model that is not for everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access(BTreeMap<String, Role>);

impl Access {
    /// The least role that may use a model: [`Role::Viewer`] where it is for everybody.
    pub fn least(&self, model: &str) -> Role {
        self.0.get(model).copied().unwrap_or(Role::Viewer)
    }

    /// Sets it.
    pub fn set(&mut self, model: &str, least: Role) {
        if least == Role::Viewer {
            self.0.remove(model);
        } else {
            self.0.insert(model.to_owned(), least);
        }
    }

    fn allows(&self, model: &str, role: Role) -> bool {
        match self.least(model) {
            Role::Viewer => true,
            Role::Member => role != Role::Viewer,
            Role::Admin => role == Role::Admin,
        }
    }

    /// Whether somebody of this role may use every model there could be.
    pub fn is_open_to_all(&self, role: Role) -> bool {
        self.0.keys().all(|model| self.allows(model, role))
    }
}

/// The least role in words, for the audit log.
pub fn words(least: Role) -> &'static str {
    match least {
        Role::Viewer => "for everybody",
        Role::Member => "for members and administrators",
        Role::Admin => "for administrators",
    }
}

impl Models {
    /// Those that somebody of this role may use.
    pub(super) fn open_to(mut self, role: Role, access: &Access) -> Self {
        let closed = |model: &Model| !access.allows(&model.summary.name, role);
        self.closed = self
            .everyone()
            .filter(|model| closed(model))
            .map(|model| model.summary.name.clone())
            .collect();
        self.models.retain(|model| !closed(model));
        self.refiners.retain(|model| !closed(model));
        if let Some(first) = self.models.first_mut() {
            first.summary.is_default = true;
        }
        self
    }

    /// Refuses a model that is not for whoever asks.
    pub(super) fn check_open(&self, name: &str) -> Result<(), AppError> {
        if !self.closed.iter().any(|closed| closed == name) {
            return Ok(());
        }
        Err(AppError::refused(format!(
            "The model {name} is not open to your role on this server. Choose another model, or ask an administrator."
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_role_and_those_above_it() {
        let mut access = Access::default();
        assert!(access.is_open_to_all(Role::Viewer));
        access.set("big", Role::Admin);
        access.set("new", Role::Member);
        for (model, role, allowed) in [
            ("big", Role::Admin, true),
            ("big", Role::Member, false),
            ("new", Role::Member, true),
            ("new", Role::Viewer, false),
            ("other", Role::Viewer, true),
        ] {
            assert_eq!(access.allows(model, role), allowed, "{model} {role:?}");
        }
        assert!(access.is_open_to_all(Role::Admin) && !access.is_open_to_all(Role::Member));
        access.set("big", Role::Viewer);
        assert!(access.is_open_to_all(Role::Member));
    }
}

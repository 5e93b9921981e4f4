//! What somebody may do.

use serde::{Deserialize, Serialize};

/// What the bearer of a token may do. `Run` may all that `View` may, `Admin` all that `Run` may; `Join` is for agents
/// alone and gives them a certificate, nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Ask for the certificate of an agent.
    Join,
    /// Read runs, reports and agents.
    View,
    /// Submit and cancel runs too.
    Run,
    /// Change the history too.
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 4] = [Role::Join, Role::View, Role::Run, Role::Admin];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Role::Join => "join",
            Role::View => "view",
            Role::Run => "run",
            Role::Admin => "admin",
        }
    }

    /// The role of that name.
    pub fn of_name(name: &str) -> Option<Self> {
        Role::ALL.into_iter().find(|role| role.name() == name)
    }

    /// Whether this role may do what `wanted` may.
    pub fn covers(self, wanted: Role) -> bool {
        let rank = |role| match role {
            Role::Join => None,
            Role::View => Some(0),
            Role::Run => Some(1),
            Role::Admin => Some(2),
        };
        self == wanted || matches!((rank(self), rank(wanted)), (Some(has), Some(needs)) if has >= needs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_what() {
        let table = [
            (Role::Admin, Role::View, true),
            (Role::Run, Role::View, true),
            (Role::Run, Role::Admin, false),
            (Role::View, Role::Run, false),
            (Role::Admin, Role::Join, false),
            (Role::Join, Role::View, false),
            (Role::Join, Role::Join, true),
        ];
        for (has, wanted, may) in table {
            assert_eq!(has.covers(wanted), may, "{has:?} {wanted:?}");
        }
    }
}

//! What is never shown, and who may come in.

use std::fmt;

/// Text that no output and no error shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text, for whoever checks with it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(set)")
    }
}

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserRole {
    /// Everything.
    Admin,
    /// Read and write.
    User,
}

/// A user to begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// The password.
    pub password: Secret,
    /// What the user may do.
    pub role: UserRole,
}

/// The password everyone knows: that of the default user.
const KNOWN_PASSWORD: &str = "admin";

impl User {
    /// Reads `name:password:role`; neither part may be empty, and a name holds no blank.
    pub fn parse(text: &str) -> Option<User> {
        let (name, rest) = text.split_once(':')?;
        let (password, role) = rest.rsplit_once(':')?;
        let role = match role {
            "admin" => UserRole::Admin,
            "user" => UserRole::User,
            _ => return None,
        };
        let named = !name.is_empty() && !name.contains(|c: char| c.is_whitespace());
        (named && !password.is_empty()).then(|| User {
            name: name.to_string(),
            password: Secret::new(password),
            role,
        })
    }

    /// Whether the password is the one that everyone knows.
    pub fn has_known_password(&self) -> bool {
        self.password.expose() == KNOWN_PASSWORD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_no_other_form_than_set() {
        let user = User::parse("ann:hunter2:admin").unwrap();
        assert_eq!(format!("{:?}", user.password), "(set)");
        assert!(!format!("{user:?}").contains("hunter2"));
        assert_eq!(user.password.expose(), "hunter2");
    }

    #[test]
    fn users_have_a_name_a_password_and_a_role() {
        let user = User::parse("ann:a:b:user").unwrap();
        assert_eq!((user.name.as_str(), user.password.expose()), ("ann", "a:b"));
        for text in ["", "ann", "ann:pw", ":pw:user", "ann::user", "ann:pw:root", "a b:pw:user"] {
            assert_eq!(User::parse(text), None, "{text}");
        }
    }
}

//! Values that must not be shown, and texts without them.

use super::object_stores::is_secret;

/// In place of a secret.
const HIDDEN: &str = "***";

/// Secret values that are known.
#[derive(Debug, Default)]
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    pub(crate) fn add<'a>(&mut self, values: impl Iterator<Item = &'a String>) {
        self.0.extend(values.filter(|value| !value.is_empty()).cloned());
        // One that is part of another goes after it.
        self.0.sort_by_key(|value| std::cmp::Reverse(value.len()));
    }

    /// The text without the known ones, and without what follows the name of a secret option in quotes.
    pub(crate) fn clean(&self, text: &str) -> String {
        let known = self.0.iter().fold(text.to_owned(), |text, value| text.replace(value.as_str(), HIDDEN));
        hide_option_values(&known)
    }
}

/// `'aws.secret_access_key' 'x'` of `OPTIONS` becomes `'aws.secret_access_key' '***'`, whoever knows the value.
fn hide_option_values(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut hide_next = false;
    // The pieces between quotes are the odd ones.
    for (number, piece) in text.split('\'').enumerate() {
        if number > 0 {
            shown.push('\'');
        }
        let is_quoted = number % 2 == 1;
        match (is_quoted, hide_next) {
            (true, true) => shown.push_str(HIDDEN),
            _ => shown.push_str(piece),
        }
        hide_next = match is_quoted {
            true => !hide_next && is_secret(&piece.to_ascii_lowercase()),
            // Only blanks or a sign may stand between the name and the value.
            false => hide_next && piece.trim().trim_matches(['=', ':', ',']).is_empty(),
        };
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_by_value_and_by_name() {
        let mut secrets = Secrets::default();
        secrets.add(["hush".to_owned(), "hush-hush".to_owned(), String::new()].iter());
        assert_eq!(secrets.clean("a hush-hush b hush c"), "a *** b *** c");
        let sql = "COPY t TO 's3://b/' OPTIONS ('aws.SECRET_access_key' 'x', 'aws.region' 'eu', 'aws.session_token'='y')";
        assert_eq!(
            secrets.clean(sql),
            "COPY t TO 's3://b/' OPTIONS ('aws.SECRET_access_key' '***', 'aws.region' 'eu', 'aws.session_token'='***')"
        );
        let plain = "SELECT 'secret' AS a, 'b' FROM t WHERE c = 'd'";
        assert_eq!(secrets.clean(plain), plain);
    }
}

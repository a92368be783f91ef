//! Names of languages in problem packages, where they are not a profile's name.

/// The package format's code, and the profile.
const CODES: [(&str, &str); 3] =
    [("python3", "python"), ("python3numpy", "python-numpy"), ("objectivec", "objective-c")];

/// The profile for a language code of the format, or a profile's own name.
pub fn profile_of_code(code: &str) -> &str {
    CODES.iter().find(|(known, _)| *known == code).map_or(code, |(_, profile)| profile)
}

/// The format's code for a profile: its name where the format has none.
pub fn code_of_profile(profile: &str) -> &str {
    match profile {
        "python-3.11" | "pypy" => "python3",
        "python-science" => "python3numpy",
        _ => CODES.iter().find(|(_, known)| *known == profile).map_or(profile, |(code, _)| code),
    }
}

/// How the format names the start of a program: the class in Java and Kotlin, else the file.
pub fn entry_point(code: &str, entry: &str) -> String {
    let class = |ending: &str| entry.strip_suffix(ending).map(|stem| stem.replace('/', "."));
    match code {
        "java" => class(".java").unwrap_or_else(|| entry.to_owned()),
        "kotlin" => class(".kt").map_or_else(|| entry.to_owned(), |stem| kotlin_class(&stem)),
        _ => entry.to_owned(),
    }
}

/// The class that Kotlin makes of a file's functions.
fn kotlin_class(stem: &str) -> String {
    let at = stem.rfind('.').map_or(0, |dot| dot + 1);
    let (package, name) = stem.split_at(at);
    let mut letters = name.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    format!("{package}{first}{}Kt", letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_has_the_formats_code_and_a_start_its_name() {
        assert_eq!([profile_of_code("python3"), profile_of_code("cpp")], ["python", "cpp"]);
        assert_eq!(
            ["python", "pypy", "objective-c", "go"].map(code_of_profile),
            ["python3", "python3", "objectivec", "go"]
        );
        assert_eq!(entry_point("java", "a/Main.java"), "a.Main");
        assert_eq!([entry_point("kotlin", "main.kt"), entry_point("cpp", "a.cpp")], ["MainKt", "a.cpp"]);
    }
}

//! Which images of ours are not needed any more. Ours are those that carry our label and no name
//! but ours: an image that an operator made of one of ours has the label as well, and is theirs.
//!
//! ```text
//!   profiles --definitions--> tags that are needed
//!   the engine's images, its containers --surplus--> layers, then images, then bases
//! ```

use std::collections::BTreeSet;

use docker::ImageSummary;

use super::catalog::{NAME_LABEL, suite_of_base};
use super::layer::{self, BELOW_LABEL};

/// Names that stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NeededImages {
    /// Tags of images, their bases and their layers.
    pub tags: BTreeSet<String>,
    /// Images of which all versions stay, because which one is needed is not known.
    pub names: BTreeSet<String>,
}

/// An image that is not needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SurplusImage {
    pub id: String,
    /// All its names.
    pub tags: Vec<String>,
    /// Of the image with everything below it, in bytes.
    pub size: u64,
    /// The image below, if it is a layer.
    pub below: Option<String>,
}

/// An image as ours: the name of its folder, or the image below the layer. `None` for others'.
fn ours(image: &ImageSummary) -> Option<(&str, Option<&str>)> {
    let labels = image.labels.as_ref()?;
    let is_named = |repository: &str| {
        let begins = |tag: &String| tag.strip_prefix(repository).is_some_and(|rest| rest.starts_with(':'));
        !image.repo_tags.is_empty() && image.repo_tags.iter().all(begins)
    };
    if let Some(below) = labels.get(BELOW_LABEL).filter(|_| is_named(layer::REPOSITORY)) {
        return Some((labels.get(NAME_LABEL).map_or("", String::as_str), Some(below)));
    }
    let name = labels.get(NAME_LABEL)?;
    is_named(&format!("assay/{name}")).then_some((name.as_str(), None))
}

/// The images that are ours and not needed, in the order in which they can be removed.
/// `used` are the ids of the containers' images.
pub fn surplus(images: &[ImageSummary], needed: &NeededImages, used: &BTreeSet<String>) -> Vec<SurplusImage> {
    let mut found: Vec<(u8, SurplusImage)> = Vec::new();
    for image in images {
        let Some((name, below)) = ours(image) else { continue };
        let is_needed = image.repo_tags.iter().any(|tag| needed.tags.contains(tag)) || needed.names.contains(name);
        if is_needed || used.contains(&image.id) {
            continue;
        }
        let order = match (below, suite_of_base(name)) {
            (Some(_), _) => 0,
            (None, None) => 1,
            (None, Some(_)) => 2,
        };
        let row = SurplusImage {
            id: image.id.clone(),
            tags: image.repo_tags.clone(),
            size: u64::try_from(image.size).unwrap_or(0),
            below: below.map(str::to_owned),
        };
        found.push((order, row));
    }
    found.sort_by(|a, b| (a.0, &a.1.tags).cmp(&(b.0, &b.1.tags)));
    found.into_iter().map(|(_, image)| image).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str, tags: &[&str], labels: &[(&str, &str)]) -> ImageSummary {
        ImageSummary {
            id: id.to_owned(),
            repo_tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            size: 5,
            labels: Some(labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()),
            ..ImageSummary::default()
        }
    }

    #[test]
    fn only_ours_that_are_not_needed_are_surplus_layers_first() {
        let python = [(NAME_LABEL, "python")];
        let layer = [(NAME_LABEL, "python"), (BELOW_LABEL, "p1")];
        let images = [
            image("b1", &["assay/base:1"], &[(NAME_LABEL, "base")]),
            image("b2", &["assay/base:2"], &[(NAME_LABEL, "base")]),
            image("p1", &["assay/python:1"], &python),
            image("p2", &["assay/python:2"], &python),
            image("p3", &["assay/python:3"], &python),
            image("l1", &["assay/sandbox:1"], &layer),
            image("l2", &["assay/sandbox:2"], &layer),
            image("l3", &["assay/sandbox:3"], &layer),
            // an image that cannot be told, and what others made of ours
            image("o1", &["assay/other:1"], &[(NAME_LABEL, "other")]),
            image("x1", &["shop/app:1"], &python),
            image("x2", &["assay/sandbox:9", "shop/app:2"], &layer),
            image("x3", &[], &python),
            image("x4", &["<none>:<none>"], &layer),
            image("x5", &["assay/pythonista:1"], &python),
            image("x6", &["debian:12"], &[]),
            ImageSummary { repo_tags: vec!["assay/python:9".to_owned()], labels: None, ..ImageSummary::default() },
        ];
        let needed = NeededImages {
            tags: ["assay/base:2", "assay/python:3", "assay/sandbox:3"].map(str::to_owned).into(),
            names: ["other".to_owned()].into(),
        };
        let used = ["l2".to_owned(), "p2".to_owned()].into();
        let found: Vec<String> = surplus(&images, &needed, &used).into_iter().map(|image| image.id).collect();
        assert_eq!(found, ["l1", "p1", "b1"]);
    }
}

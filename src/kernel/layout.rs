//! Whether a host struct has the layout that the shader gives its twin.

/// One field of a host struct: name, offset and size in bytes.
pub(crate) type Field = (&'static str, usize, usize);

/// Compares the struct `name` of a module with its host twin, field by field.
///
/// # Errors
/// What differs, in words.
pub(crate) fn check(module: &naga::Module, name: &str, size: usize, fields: &[Field]) -> Result<(), String> {
    let found = module.types.iter().find(|(_, ty)| ty.name.as_deref() == Some(name));
    let Some((_, naga::Type { inner: naga::TypeInner::Struct { members, span }, .. })) = found else {
        return Err(format!("the shader has no struct {name}"));
    };
    let layout: Vec<(&str, usize, usize)> = members
        .iter()
        .map(|member| {
            let bytes = module.types[member.ty].inner.size(module.to_ctx()) as usize;
            (member.name.as_deref().unwrap_or(""), member.offset as usize, bytes)
        })
        .collect();
    if layout != fields {
        return Err(format!("struct {name} is {layout:?} in the shader and {fields:?} on the host"));
    }
    if *span as usize != size {
        return Err(format!("struct {name} has {span} bytes in the shader and {size} on the host"));
    }
    Ok(())
}

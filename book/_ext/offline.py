"""Drop the scripts of Thebe, which run code on a server and load from a CDN."""


def drop(app, pagename, templatename, context, doctree):
    def wanted(script):
        attributes = str(getattr(script, "attributes", "")) + str(getattr(script, "filename", script))
        return "thebe" not in attributes.lower()

    context["script_files"] = [s for s in context["script_files"] if wanted(s)]
    context["css_files"] = [s for s in context["css_files"] if wanted(s)]


def setup(app):
    app.connect("html-page-context", drop, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

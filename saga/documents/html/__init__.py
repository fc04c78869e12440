"""The pages of the site, and the picture of the flow. Begin with `page`; what is not markup is escaped in `markup`."""

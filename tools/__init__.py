"""Parts of the tools and tests are imported as packages from the root of the checkout."""

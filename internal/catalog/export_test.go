package catalog

// Remembered returns of how many backups the catalogue knows the manifest's hash.
func (c *Catalog) Remembered() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.sums)
}

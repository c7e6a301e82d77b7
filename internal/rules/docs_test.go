package rules_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const top = "../.."

// pages are all pages of documentation, by their path from the top.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(top, func(file string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && len(entry.Name()) > 2 && strings.HasPrefix(entry.Name(), "."), entry.Name() == "testdata", entry.Name() == "node_modules":
			return fs.SkipDir
		case entry.IsDir() || filepath.Ext(file) != ".md":
			return nil
		}
		text, err := os.ReadFile(file)
		name, _ := filepath.Rel(top, file)
		all[filepath.ToSlash(name)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var (
	fence   = regexp.MustCompile("(?s)\n *```.*?\n *```")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	named   = regexp.MustCompile(`<a id="([^"]+)">`)
	marks   = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors are the places of a page that a link can lead to: headings, as GitHub
// names them, and named ones.
func anchors(page string) []string {
	var all []string
	page = fence.ReplaceAllString(page, "")
	for _, h := range heading.FindAllStringSubmatch(page, -1) {
		all = append(all, strings.ReplaceAll(marks.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-"))
	}
	for _, n := range named.FindAllStringSubmatch(page, -1) {
		all = append(all, n[1])
	}
	return all
}

// Links between pages lead somewhere.
func TestLinks(t *testing.T) {
	all, links := pages(t), 0
	for name, page := range all {
		for _, l := range link.FindAllStringSubmatch(fence.ReplaceAllString(page, ""), -1) {
			target, anchor, _ := strings.Cut(l[1], "#")
			if strings.Contains(target, ":") {
				continue // elsewhere
			}
			links++
			file := filepath.Join(filepath.Dir(name), target)
			if target == "" {
				file = name
			}
			if _, err := os.Stat(filepath.Join(top, file)); err != nil {
				t.Errorf("%s: there is no %s", name, l[1])
			} else if anchor != "" && !slices.Contains(anchors(all[file]), anchor) {
				t.Errorf("%s: %s has no %q", name, file, anchor)
			}
		}
	}
	if links < 80 {
		t.Errorf("only %d links", links)
	}
}

// Who begins at the README finds every page.
func TestReadmeNamesEveryPage(t *testing.T) {
	all := pages(t)
	for name := range all {
		if strings.HasPrefix(name, "docs/") && !strings.Contains(all["README.md"], "]("+name+")") {
			t.Errorf("the README does not link %s", name)
		}
	}
}

var sends = regexp.MustCompile(`(docs/[a-z-]+\.md)(?:, ([A-Z][A-Za-z ]+))?`)

// Where the program sends its user, there is something to read.
func TestMessagesNamePages(t *testing.T) {
	files, err := filepath.Glob(top + "/cmd/worker/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	all, found := pages(t), 0
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range sends.FindAllStringSubmatch(string(source), -1) {
			found++
			page, there := all[s[1]]
			if !there || s[2] != "" && !strings.Contains(page, "\n## "+s[2]+"\n") {
				t.Errorf("%s: there is no %s", file, s[0])
			}
		}
	}
	if found < 3 {
		t.Errorf("only %d", found)
	}
}

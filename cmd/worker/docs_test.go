package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var (
	fenced = regexp.MustCompile("(?s)\n *```.*?\n *```")
	shell  = regexp.MustCompile("(?s)\n *```sh\n(.*?)\n *```")
	quoted = regexp.MustCompile("`(?:bin/)?worker ([^`\n]+)`")
	// call finds what follows the program's name in a line of a shell.
	call = regexp.MustCompile(`(?:^|[\s;(]|bin/)worker ([^|;&#>]+)`)
	word = regexp.MustCompile(`^[a-z][a-z-]*$`)
)

// calls are the worker's command lines on a page, without the program's name.
func calls(page string) []string {
	var all []string
	for _, block := range shell.FindAllStringSubmatch(page, -1) {
		for line := range strings.Lines(strings.ReplaceAll(block[1], "\\\n", " ")) {
			line, _, _ = strings.Cut(line, " #")
			for _, c := range call.FindAllStringSubmatch(line, -1) {
				all = append(all, c[1])
			}
		}
	}
	for _, q := range quoted.FindAllStringSubmatch(fenced.ReplaceAllString(page, ""), -1) {
		all = append(all, q[1])
	}
	return all
}

// resolve follows a command line to its command, and names what there is not.
func resolve(root *cobra.Command, line string) (command *cobra.Command, missing string) {
	command = root
	for w := range strings.FieldsSeq(line) {
		w = strings.Trim(w, "[]()")
		if flag, ok := strings.CutPrefix(w, "--"); ok {
			name, _, _ := strings.Cut(flag, "=")
			command.InitDefaultHelpFlag()
			if command.Flag(name) == nil && command.InheritedFlags().Lookup(name) == nil {
				return command, w
			}
			continue
		}
		if !command.HasSubCommands() || !word.MatchString(w) {
			continue
		}
		sub, _, err := command.Find([]string{w})
		if err != nil || sub == command {
			return command, w
		}
		command = sub
	}
	return command, ""
}

// TestDocumentedCommands: each command and flag that a page names exists, and
// pages name every command that the help shows.
func TestDocumentedCommands(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatal(err)
	}
	root := (&app{stdout: io.Discard, stderr: io.Discard}).rootCommand()
	told, found := map[*cobra.Command]bool{}, 0
	for _, page := range append(pages, "../../README.md", "../../CHANGELOG.md", "../../ARCHITECTURE.md", "../../bench/README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range calls(string(text)) {
			found++
			command, missing := resolve(root, line)
			if missing != "" {
				t.Errorf("%s: worker %s: there is no %s", filepath.Base(page), line, missing)
			}
			told[command] = true
		}
	}
	if found < 100 {
		t.Errorf("only %d command lines", found)
	}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.IsAvailableCommand() && !c.HasSubCommands() && !told[c] {
			t.Errorf("no page names %s", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
}

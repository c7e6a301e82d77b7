package configs

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Secret is text that no log, no error and no JSON ever shows. string(s) is
// the text itself.
type Secret string

const hidden = "******"

// String hides the secret; an empty one stays empty.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return hidden
}

// GoString hides the secret from %#v.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// MarshalText hides the secret from JSON, YAML and log/slog.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Size is a number of bytes, written as 8GiB, 20MiB, 1.5GB or 4096.
type Size int64

var units = []struct {
	name  string
	bytes Size
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"KB", 1e3}, {"B", 1},
}

// String writes the size in the largest binary unit that holds it exactly.
func (s Size) String() string {
	for _, unit := range units[:4] {
		if s != 0 && s%unit.bytes == 0 {
			return strconv.FormatInt(int64(s/unit.bytes), 10) + unit.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

func parseSize(text string) (Size, error) {
	wrong := errors.New("must be a size such as 8GiB or 20MB")
	number, factor := text, Size(1)
	for _, unit := range units {
		if rest, ok := strings.CutSuffix(text, unit.name); ok {
			number, factor = rest, unit.bytes
			break
		}
	}
	if whole, err := strconv.ParseInt(number, 10, 64); err == nil {
		if whole < 0 || Size(whole) > math.MaxInt64/factor {
			return 0, wrong
		}
		return Size(whole) * factor, nil
	}
	fraction, err := strconv.ParseFloat(number, 64)
	if bytes := fraction * float64(factor); err == nil && bytes >= 0 && bytes < math.MaxInt64 {
		return Size(bytes), nil
	}
	return 0, wrong
}

// Devices names what the engine runs on: "auto" alone, or some of cpu, cuda:0,
// cuda:1 and so on.
type Devices []string

// Auto tells whether the worker is to look for devices itself.
func (d Devices) Auto() bool { return len(d) == 1 && d[0] == "auto" }

// parse reads a value as environment variables hold it: lists as a,b and maps
// as a=1,b=2. The text of no error holds the value.
func parse(typ reflect.Type, text string) (any, error) {
	switch typ {
	case reflect.TypeFor[string]():
		return text, nil
	case reflect.TypeFor[Secret]():
		return Secret(text), nil
	case reflect.TypeFor[bool]():
		if text != "true" && text != "false" {
			return nil, errors.New("must be true or false")
		}
		return text == "true", nil
	case reflect.TypeFor[int]():
		number, err := strconv.Atoi(text)
		if err != nil {
			return nil, errors.New("must be a whole number")
		}
		return number, nil
	case reflect.TypeFor[float64]():
		number, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(number) {
			return nil, errors.New("must be a number")
		}
		return number, nil
	case reflect.TypeFor[time.Duration]():
		duration, err := time.ParseDuration(text)
		if err != nil {
			return nil, errors.New("must be a duration such as 30s or 10m")
		}
		return duration, nil
	case reflect.TypeFor[Size]():
		return parseSize(text)
	case reflect.TypeFor[[]string]():
		return split(text), nil
	case reflect.TypeFor[Devices]():
		return Devices(split(text)), nil
	case reflect.TypeFor[map[string]string]():
		return parseMap(text, func(value string) (string, error) { return value, nil })
	case reflect.TypeFor[map[string]int]():
		return parseMap(text, func(value string) (int, error) {
			number, err := strconv.Atoi(value)
			if err != nil {
				return 0, errors.New("each value must be a whole number")
			}
			return number, nil
		})
	}
	panic("configs: no syntax for " + typ.String())
}

func split(text string) []string {
	items := []string{}
	if text == "" {
		return items
	}
	for item := range strings.SplitSeq(text, ",") {
		items = append(items, strings.TrimSpace(item))
	}
	return items
}

func parseMap[V any](text string, value func(string) (V, error)) (map[string]V, error) {
	entries := map[string]V{}
	for _, item := range split(text) {
		name, rest, found := strings.Cut(item, "=")
		if !found {
			return nil, errors.New("must be written a=1,b=2")
		}
		if _, twice := entries[name]; twice {
			return nil, errors.New("holds a name twice")
		}
		parsed, err := value(rest)
		if err != nil {
			return nil, err
		}
		entries[name] = parsed
	}
	return entries, nil
}

// format is the inverse of parse, with secrets hidden.
func format(value any) string {
	switch value := value.(type) {
	case time.Duration:
		return formatDuration(value)
	case []string:
		return strings.Join(value, ",")
	case Devices:
		return strings.Join(value, ",")
	case map[string]string:
		return formatMap(value)
	case map[string]int:
		return formatMap(value)
	default:
		return fmt.Sprint(value)
	}
}

func formatMap[V any](entries map[string]V) string {
	items := make([]string, 0, len(entries))
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		items = append(items, fmt.Sprintf("%s=%v", name, entries[name]))
	}
	return strings.Join(items, ",")
}

// formatDuration drops the zeros that time.Duration leaves: 10m0s is 10m.
func formatDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

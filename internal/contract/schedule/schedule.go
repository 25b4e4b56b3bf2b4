// Package schedule reads the times at which a service runs: an interval, such as "6h", or a cron
// expression of five fields as crontab(5) of Vixie cron describes it, without names of months and
// days and without its extensions. A recipe, its guest and the status of a machine mean the same by
// one text.
package schedule

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Schedule says when something runs next.
type Schedule struct {
	every  time.Duration // an interval; 0: the fields
	fields [5]uint64     // bits of the allowed values
	// A day matches when both fields of days do or, if neither is *, when one of them does.
	eitherDay bool
}

// Bounds of an interval: a shorter one is a service that is restarted, a longer one does not
// outlive a machine.
const (
	minInterval = time.Minute
	maxInterval = 366 * 24 * time.Hour
)

// The fields of an expression.
const (
	minute = iota
	hour
	day
	month
	weekday
)

var ranges = [5]struct {
	name      string
	low, high int
}{{"minute", 0, 59}, {"hour", 0, 23}, {"day of the month", 1, 31}, {"month", 1, 12}, {"day of the week", 0, 7}}

// Parse reads a schedule. Fields are numbers, ranges such as 1-5, lists with commas, * for all, and
// steps such as */15. Days of the week are 0 to 7, of which 0 and 7 are Sunday.
func Parse(text string) (*Schedule, error) {
	fields := strings.Fields(text)
	if len(fields) == 1 {
		d, err := time.ParseDuration(fields[0])
		if err != nil || d < minInterval || d > maxInterval {
			return nil, fmt.Errorf("%.40q must be an interval from 1m to 8784h, such as 6h, or a cron expression, such as \"30 3 * * *\"", text)
		}
		return &Schedule{every: d}, nil
	}
	if len(fields) != len(ranges) {
		return nil, fmt.Errorf("%.40q has %d fields: must be a cron expression of five (minute, hour, day, month, day of the week) or an interval such as 6h", text, len(fields))
	}
	s := &Schedule{}
	for i, field := range fields {
		r := ranges[i]
		var err error
		if s.fields[i], err = parseField(field, r.low, r.high); err != nil {
			return nil, fmt.Errorf("%.40q: %s: %w", text, r.name, err)
		}
	}
	if s.fields[weekday]&(1<<7) != 0 {
		s.fields[weekday] |= 1
	}
	s.eitherDay = fields[day][0] != '*' && fields[weekday][0] != '*'
	if s.Next(epoch).IsZero() {
		return nil, fmt.Errorf("%.40q never matches: this day does not exist", text)
	}
	return s, nil
}

// epoch begins the years in which an expression has to come once.
var epoch = time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)

func parseField(field string, low, high int) (bits uint64, err error) {
	for _, part := range strings.Split(field, ",") {
		span, stepText, stepped := strings.Cut(part, "/")
		step := 1
		if stepped {
			if step, err = number(stepText, 1, high); err != nil {
				return 0, fmt.Errorf("step %w", err)
			}
		}
		from, to := low, high
		if span != "*" {
			first, last, isRange := strings.Cut(span, "-")
			if from, err = number(first, low, high); err != nil {
				return 0, err
			}
			to = from
			if isRange {
				if to, err = number(last, low, high); err != nil {
					return 0, err
				}
			} else if stepped {
				return 0, fmt.Errorf("%.20q: a step follows * or a range", part)
			}
			if to < from {
				return 0, fmt.Errorf("%.20q ends before it begins", part)
			}
		}
		for v := from; v <= to; v += step {
			bits |= 1 << v
		}
	}
	return bits, nil
}

func number(text string, low, high int) (int, error) {
	n, err := strconv.Atoi(text)
	if err == nil && strings.HasPrefix(text, "+") {
		err = errors.New("a sign")
	}
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("%.20q must be a number from %d to %d", text, low, high)
	}
	return n, nil
}

// Interval reports whether s is an interval, which begins with a first run.
func (s *Schedule) Interval() bool { return s.every > 0 }

// Next returns the first time after a moment, in whole minutes of UTC for an expression; zero if
// there is none within 28 years, in which the calendar repeats itself.
func (s *Schedule) Next(after time.Time) time.Time {
	if s.every > 0 {
		return after.Add(s.every)
	}
	t := after.UTC().Truncate(time.Minute).Add(time.Minute)
	for end := t.AddDate(28, 0, 0); t.Before(end); {
		switch {
		case s.fields[month]&(1<<int(t.Month())) == 0:
			t = time.Date(t.Year(), t.Month()+1, 1, 0, 0, 0, 0, time.UTC)
		case !s.onDay(t):
			t = time.Date(t.Year(), t.Month(), t.Day()+1, 0, 0, 0, 0, time.UTC)
		case s.fields[hour]&(1<<t.Hour()) == 0:
			t = t.Truncate(time.Hour).Add(time.Hour)
		case s.fields[minute]&(1<<t.Minute()) == 0:
			t = t.Add(time.Minute)
		default:
			return t
		}
	}
	return time.Time{}
}

func (s *Schedule) onDay(t time.Time) bool {
	inMonth := s.fields[day]&(1<<t.Day()) != 0
	inWeek := s.fields[weekday]&(1<<int(t.Weekday())) != 0
	if s.eitherDay {
		return inMonth || inWeek
	}
	return inMonth && inWeek
}

"""From what commands did to the smallest policy that lets them: observe, merge, suggest."""

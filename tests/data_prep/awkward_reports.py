"""Invented reports with every habit that MIMIC-CXR's are known for.

`REPORTS` holds (name, text, all sections that it has).
"""

RULE = "_" * 78
HEAD = " " * 33 + "FINAL REPORT\n"

REPORTS = [
  (
    "modern",
    f"""{HEAD} EXAMINATION:  CHEST (PORTABLE AP)

 INDICATION:  ___ year old man with fever  // pneumonia?

 TECHNIQUE:  Single frontal view.

 COMPARISON:  ___

 FINDINGS:

 Lungs are clear.  Heart is normal.

 IMPRESSION:

 No pneumonia.
""",
    {
      "examination": "CHEST (PORTABLE AP)",
      "indication": "___ year old man with fever // pneumonia?",
      "technique": "Single frontal view.",
      "comparison": "___",
      "findings": "Lungs are clear. Heart is normal.",
      "impression": "No pneumonia.",
    },
  ),
  (
    "one_line",
    "EXAM: Chest. INDICATION: Cough. FINDINGS: Clear lungs. "
    "IMPRESSION: Normal. RECOMMENDATION(S): None.",
    {
      "examination": "Chest. INDICATION: Cough.",
      "findings": "Clear lungs.",
      "impression": "Normal.",
      "recommendations": "None.",
    },
  ),
  (
    "one_line_in_mixed_case",
    "Findings: None new. Impression: 1. Stable chest.",
    {"findings": "None new.", "impression": "1. Stable chest."},
  ),
  (
    "impression_in_line_without_stop",
    " INDICATION: Cough for ___ days IMPRESSION: No pneumonia.",
    {"indication": "Cough for ___ days", "impression": "No pneumonia."},
  ),
  (
    "impression_touches_its_list",
    " FINDINGS:Clear.\n IMPRESSION:1. Normal.\n 2. No effusion.",
    {"findings": "Clear.", "impression": "1. Normal. 2. No effusion."},
  ),
  (
    "impression_alone_begins_with_the_views",
    f"""{HEAD} INDICATION:  Fall.

 IMPRESSION:  AP chest compared to ___ at 10:32 a.m.:

 Lungs are clear.  No pneumothorax.
""",
    {
      "indication": "Fall.",
      "impression": "AP chest compared to ___ at 10:32 a.m.: Lungs are clear. "
      "No pneumothorax.",
    },
  ),
  (
    "impression_begins_with_the_views_in_capitals",
    " IMPRESSION:\n\n AP CHEST, COMPARED TO ___:\n Lungs are clear.",
    {"impression": "AP CHEST, COMPARED TO ___: Lungs are clear."},
  ),
  (
    "findings_and_impression",
    " FINDINGS AND IMPRESSION:  Clear lungs.\n",
    {"impression": "Clear lungs."},
  ),
  (
    "findings_ampersand_impression",
    " FINDINGS & IMPRESSION:  Clear lungs.\n",
    {"impression": "Clear lungs."},
  ),
  (
    "findings_slash_impression_with_blank",
    " FINDINGS/ IMPRESSION:  Clear lungs.\n",
    {"impression": "Clear lungs."},
  ),
  (
    "impression_and_recommendation",
    " IMPRESSION AND RECOMMENDATION:  Nodule.  CT in ___ months.\n",
    {"impression": "Nodule. CT in ___ months."},
  ),
  (
    "conclusion",
    " HISTORY:  Cough.\n\n CONCLUSION:  Clear lungs.\n",
    {"history": "Cough.", "impression": "Clear lungs."},
  ),
  (
    "misspelt_headings",
    " NDICATION: Cough.\n COMPARISION: None.\n FINDNGS: Clear.\n"
    " IMPRESSON: Normal.",
    {
      "indication": "Cough.",
      "comparison": "None.",
      "findings": "Clear.",
      "impression": "Normal.",
    },
  ),
  (
    "more_misspelt_headings",
    " IDICATION: Cough.\n COMPARRISON: None.\n FINIDNGS: Clear.\n"
    " IMPERSSION: Normal.",
    {
      "indication": "Cough.",
      "comparison": "None.",
      "findings": "Clear.",
      "impression": "Normal.",
    },
  ),
  (
    "misspelt_within_a_name",
    " CLINICAL HISTROY: Cough.\n FINDINGS AND IMPRESSSION: Normal.",
    {"history": "Cough.", "impression": "Normal."},
  ),
  (
    "heading_without_colon_on_its_own_line",
    " FINDINGS\n\n The lungs are clear.\n\n IMPRESSION\n Normal.\n",
    {"findings": "The lungs are clear.", "impression": "Normal."},
  ),
  (
    "heading_without_colon_in_mixed_case",
    "Findings\nThe lungs are clear.\nImpression\nNormal.\n",
    {"findings": "The lungs are clear.", "impression": "Normal."},
  ),
  (
    "heading_without_colon_before_text",
    " FINDINGS The lungs are clear.\n IMPRESSION 1. Normal.\n",
    {"findings": "The lungs are clear.", "impression": "1. Normal."},
  ),
  (
    "heading_with_dash_or_semicolon",
    " FINDINGS - The lungs are clear.\n IMPRESSION; Normal.\n",
    {"findings": "The lungs are clear.", "impression": "Normal."},
  ),
  (
    "colon_on_the_next_side_of_a_blank",
    " FINDINGS :  Clear.\n IMPRESSION :\n Normal.\n",
    {"findings": "Clear.", "impression": "Normal."},
  ),
  (
    "decorated_headings",
    " *FINDINGS:* Clear.\n ** IMPRESSION **: Normal.\n",
    {"findings": "Clear.", "impression": "Normal."},
  ),
  (
    "removed_word_before_the_heading",
    " ___ FINDINGS: Clear.\n ___ IMPRESSION: Normal.\n",
    {"": "___", "findings": "Clear. ___", "impression": "Normal."},
  ),
  (
    "views_carry_the_findings",
    f"""{HEAD} CHEST, PA AND LATERAL:  Heart and lungs are normal.

 IMPRESSION:  Normal.
""",
    {"findings": "Heart and lungs are normal.", "impression": "Normal."},
  ),
  (
    "views_with_a_time",
    " PORTABLE CHEST, ___ AT 10:32:  Lungs are clear.\n",
    {"findings": "Lungs are clear."},
  ),
  (
    "views_are_a_mere_title",
    """ CHEST, TWO VIEWS:

 INDICATION:  Cough.

 FINDINGS:  Clear.
""",
    {"indication": "Cough.", "findings": "Clear."},
  ),
  (
    "body_resumes_the_views",
    """ CHEST, TWO VIEWS:

 INDICATION:  Cough.

 COMPARISON:  None.

 Lungs are clear.

 IMPRESSION:  Normal.
""",
    {
      "indication": "Cough.",
      "comparison": "None.",
      "findings": "Lungs are clear.",
      "impression": "Normal.",
    },
  ),
  (
    "comparison_interrupts_the_findings",
    " FINDINGS:\n COMPARISON:  ___.\n\n Lungs are clear.\n",
    {"comparison": "___.", "findings": "Lungs are clear."},
  ),
  (
    "views_within_the_findings",
    " FINDINGS:\n PA AND LATERAL VIEWS: Lungs are clear.\n HEART: Normal.\n",
    {"findings": "PA AND LATERAL VIEWS: Lungs are clear. HEART: Normal."},
  ),
  (
    "two_studies_in_one_report",
    """ CHEST, PA:  Lungs are clear.

 IMPRESSION:  No pneumothorax.

 LEFT RIBS, THREE VIEWS:  No fracture.

 IMPRESSION:  Normal ribs.
""",
    {
      "findings": "Lungs are clear. No fracture.",
      "impression": "No pneumothorax. Normal ribs.",
    },
  ),
  (
    "organs_in_the_impression",
    " IMPRESSION:  1. Stable.\n CHEST:  No nodule.\n CHEST TUBE: In place.\n"
    " OTHER FINDINGS: None.\n",
    {
      "impression": "1. Stable. CHEST: No nodule. CHEST TUBE: In place. "
      "OTHER FINDINGS: None."
    },
  ),
  (
    "only_a_paragraph_after_examination",
    f"""{HEAD} EXAMINATION:  CHEST RADIOGRAPH

 In comparison with the study of ___, there is little change.
""",
    {
      "examination": "CHEST RADIOGRAPH",
      "": "In comparison with the study of ___, there is little change.",
    },
  ),
  (
    "paragraph_before_the_impression",
    """ HISTORY:  Cough.

 Two views show clear lungs.

 IMPRESSION:  Normal.
""",
    {
      "history": "Cough.",
      "": "Two views show clear lungs.",
      "impression": "Normal.",
    },
  ),
  (
    "no_heading_at_all",
    f"{HEAD} Lungs are clear.\n\n Heart is normal.\n",
    {"": "Lungs are clear. Heart is normal."},
  ),
  (
    "wet_read_before_the_final_report",
    f""" WET READ: ___ ___ ___ 9:12 PM
   Question of opacity.
 WET READ VERSION #1 ___ ___ ___ 8:40 PM
   Clear.
{RULE}
{HEAD} FINDINGS:  Clear.

 IMPRESSION:  Normal.
""",
    {
      "wet read": "___ ___ ___ 9:12 PM Question of opacity. WET READ VERSION "
      "#1 ___ ___ ___ 8:40 PM Clear.",
      "findings": "Clear.",
      "impression": "Normal.",
    },
  ),
  (
    "wet_read_with_an_impression_of_its_own",
    f" WET READ: ___\n IMPRESSION: Mass.\n{RULE}\n{HEAD} FINDINGS:  Clear.",
    {"wet read": "___", "findings": "Clear."},
  ),
  (
    "wet_read_below_a_rule_without_final_report",
    f" WET READ: ___\n  Opacity.\n{RULE}\n Lungs are clear.\n",
    {"wet read": "___ Opacity.", "": "Lungs are clear."},
  ),
  (
    "provisional_impression",
    f""" PROVISIONAL FINDINGS IMPRESSION (PFI):  ___ ___ ___ 3:20 PM
   1. Possible pneumonia.
{RULE}
{HEAD} IMPRESSION:  No pneumonia.
""",
    {
      "preliminary": "___ ___ ___ 3:20 PM 1. Possible pneumonia.",
      "impression": "No pneumonia.",
    },
  ),
  (
    "pfi_alone",
    " PFI:  Possible pneumonia.\n",
    {"preliminary": "Possible pneumonia."},
  ),
  (
    "preliminary_report_above_the_final_one",
    " " * 33
    + f"PRELIMINARY REPORT\n FINDINGS: Opacity.\n{HEAD} FINDINGS: None.",
    {"findings": "None."},
  ),
  (
    "addendum_above_the_report",
    " " * 33
    + f"""FINAL ADDENDUM
 IMPRESSION should read:  left, not right.

{RULE}
{HEAD} FINDINGS:  Right effusion.
""",
    {
      "addendum": "IMPRESSION should read: left, not right.",
      "findings": "Right effusion.",
    },
  ),
  (
    "addendum_below_the_report",
    f"{HEAD} IMPRESSION:  Right effusion.\n"
    + " " * 33
    + "FINAL ADDENDUM\n IMPRESSION:  Left effusion.\n",
    {
      "impression": "Right effusion.",
      "addendum": "IMPRESSION: Left effusion.",
    },
  ),
  (
    "addendum_as_first_section",
    f"{HEAD} ADDENDUM:  Told to Dr. ___.\n\n FINDINGS:  Clear.\n"
    " IMPRESSION:  Normal.\n",
    {
      "addendum": "Told to Dr. ___.",
      "findings": "Clear.",
      "impression": "Normal.",
    },
  ),
  (
    "addendum_is_all_there_is",
    " " * 33 + "FINAL ADDENDUM\n FINDINGS:  Clear.\n IMPRESSION:  Normal.\n",
    {"findings": "Clear.", "impression": "Normal."},
  ),
  (
    "head_repeated_on_the_second_page",
    f"{HEAD} FINDINGS:  Clear\n{HEAD} lungs.\n IMPRESSION:  Normal.\n",
    {"findings": "Clear lungs.", "impression": "Normal."},
  ),
  (
    "head_marked_abnormal",
    " WET READ: ___\n IMPRESSION: Clear.\n *FINAL REPORT* (ABNORMAL!)\n"
    " IMPRESSION: Mass.\n",
    {"wet read": "___", "impression": "Mass."},
  ),
  (
    "what_follows_the_impression",
    """ IMPRESSION:

 1.  Nodule.
 2.  Effusion.

 RECOMMENDATION(S):  CT.

 NOTIFICATION:  Told to Dr. ___ by phone at 10:32 on ___, ___ minutes after.
""",
    {
      "impression": "1. Nodule. 2. Effusion.",
      "recommendations": "CT.",
      "notification": "Told to Dr. ___ by phone at 10:32 on ___, ___ minutes "
      "after.",
    },
  ),
  (
    "comment_stays_in_the_impression",
    " IMPRESSION:  Normal.\n\n COMMENT:  Limited by rotation.\n",
    {"impression": "Normal. COMMENT: Limited by rotation."},
  ),
  (
    "all_capitals",
    "FINDINGS: SMALL EFFUSION, NO CHANGE FROM\nTHE LAST STUDY.\n"
    "IMPRESSION: SMALL EFFUSION.",
    {
      "findings": "SMALL EFFUSION, NO CHANGE FROM THE LAST STUDY.",
      "impression": "SMALL EFFUSION.",
    },
  ),
  (
    "colons_and_times_in_the_text",
    " FINDINGS: Seen at\n AT 10:30. Tubes: two.\n Ratio 1:2. CT: see there.\n",
    {
      "findings": "Seen at AT 10:30. Tubes: two. Ratio 1:2. CT: see there.",
    },
  ),
  (
    "sentences_that_begin_like_headings",
    " FINDINGS:  Comparison is made to ___.\n Findings suggest edema.\n"
    " Impression of a mass is\n false, as\n reported by the ward.\n",
    {
      "findings": "Comparison is made to ___. Findings suggest edema. "
      "Impression of a mass is false, as reported by the ward."
    },
  ),
  (
    "ages_and_placeholders",
    " HISTORY:  ___-year-old, ____ yo F, XXXX/XXXX.\n"
    " FINDINGS:  Since ___/___, tube ___ cm above the carina.\n",
    {
      "history": "___-year-old, ___ yo F, XXXX/XXXX.",
      "findings": "Since ___/___, tube ___ cm above the carina.",
    },
  ),
  (
    "nothing_but_placeholders",
    " FINDINGS:  ___.\n IMPRESSION:  XXXX XXXX.\n COMPARISON:  ___.\n",
    {"comparison": "___."},
  ),
  (
    "other_names",
    " TYPE OF EXAMINATION: Chest.\n REASON FOR EXAM: Fever.\n"
    " REFERENCE EXAM: ___.\n PATIENT HISTORY: None.\n"
    " CLINICAL INFORMATION & QUESTIONS TO BE ANSWERED: Edema?\n"
    " REPORT: Clear.\n OPINION: Normal.\n",
    {
      "examination": "Chest.",
      "indication": "Fever.",
      "comparison": "___.",
      "history": "None. Edema?",
      "findings": "Clear.",
      "impression": "Normal.",
    },
  ),
  (
    "clinical_impression_is_what_the_ward_thinks",
    " CLINICAL IMPRESSION:  Pneumonia.\n\n FINDINGS:  Clear.\n",
    {"history": "Pneumonia.", "findings": "Clear."},
  ),
  (
    "comparison_in_the_middle_of_the_findings",
    " FINDINGS:  Stable since then. COMPARISON:  ___.  Lungs clear.\n",
    {"findings": "Stable since then. COMPARISON: ___. Lungs clear."},
  ),
  (
    "signature",
    "IMPRESSION: Normal\n\nElectronically signed by: A. Writer, MD\nat 10:32\n"
    "Dictated by A. Reader\n",
    {
      "impression": "Normal",
      "signature": "Electronically signed by: A. Writer, MD at 10:32 "
      "Dictated by A. Reader",
    },
  ),
  (
    "personal_data_ends_the_impression",
    "IMPRESSION: Normal.\nPATIENT NAME: J. Poe\nMRN: 00\nRADIOLOGIST: A. Reader"
    "\n\nPage two.\n",
    {
      "impression": "Normal.",
      "personal": "J. Poe 00 A. Reader",
      "": "Page two.",
    },
  ),
  (
    "personal_data_heads_the_report",
    "Patient Name: J. Poe  DOB: 1/2/00\n\nLungs are clear.\n",
    {"personal": "J. Poe 1/2/00", "": "Lungs are clear."},
  ),
  (
    "personal_data_interrupts_the_views",
    " CHEST, TWO VIEWS:\n\n ATTENDING:\n\n A. Reader\n\n Lungs are clear.\n",
    {"personal": "A. Reader", "findings": "Lungs are clear."},
  ),
  (
    "signature_of_a_wet_read",
    f" WET READ: ___\n Opacity.\n Read by: ___\n{RULE}\n Lungs are clear.\n",
    {"wet read": "___ Opacity. Read by: ___", "": "Lungs are clear."},
  ),
  (
    "what_only_resembles_signatures",
    " FINDINGS: Painful as\n reported by the ward, and seen by Dr. ___.\n"
    " Reported by the patient. Verified by CT. NO CHANGE AS READ BY US.\n"
    " Told the attending physician: CT. Location: left.\n",
    {
      "findings": "Painful as reported by the ward, and seen by Dr. ___. "
      "Reported by the patient. Verified by CT. NO CHANGE AS READ BY US. "
      "Told the attending physician: CT. Location: left."
    },
  ),
  (
    "section_twice",
    " FINDINGS:  Clear.\n\n IMPRESSION:  Normal.\n\n FINDINGS:  Two views.\n",
    {"findings": "Clear. Two views.", "impression": "Normal."},
  ),
  (
    "empty_sections",
    " INDICATION:\n\n FINDINGS:\n\n IMPRESSION:  Normal.\n",
    {"impression": "Normal."},
  ),
  (
    "line_ends_of_other_systems",
    "FINDINGS: Clear.\r\n\r\nIMPRESSION:\u00a0Normal\u2028for age.\f",
    {"findings": "Clear.", "impression": "Normal for age."},
  ),
  (
    "line_ends_spelt_out",
    "FINDINGS: Clear.\\n\\nIMPRESSION: Normal.\\n",
    {"findings": "Clear.", "impression": "Normal."},
  ),
  ("blank", "\n \n\t", {}),
]

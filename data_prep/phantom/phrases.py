"""The sentences of the reports: plain radiology English with slots.

Slots: {Sev}/{sev} severity, {side} "left", "right" or "bilateral", {where} a
lobe or zone, {is} and {s} agree with {side}. `reports` fills them.
"""

# Words for mild, moderate and severe.
SEVERITY = {
  "cardiomegaly": (
    ("mild", "slight", "borderline to mild"),
    ("moderate",),
    ("severe", "marked"),
  ),
  "effusion": (("small", "trace", "tiny"), ("moderate",), ("large",)),
  "consolidation": (
    ("mild", "subtle", "faint"),
    ("moderate", "patchy"),
    ("dense", "extensive", "severe"),
  ),
  "atelectasis": (
    ("mild", "minimal", "minor"),
    ("moderate",),
    ("severe", "marked", "extensive"),
  ),
  "edema": (("mild", "minimal", "slight"), ("moderate",), ("severe", "marked")),
  "pneumothorax": (("small", "tiny"), ("moderate",), ("large",)),
  "nodule": (("small", "tiny", "faint"), ("rounded", "focal"), ("large",)),
}

PRESENT = {
  "cardiomegaly": (
    "{Sev} cardiomegaly.",
    "There is {sev} cardiomegaly.",
    "{Sev} enlargement of the cardiac silhouette.",
    "The heart is enlarged, to a {sev} degree.",
    "Cardiomegaly is present and {sev}.",
    "The cardiac silhouette is enlarged, consistent with {sev} cardiomegaly.",
    "Heart size is increased with {sev} cardiomegaly.",
    "{Sev} cardiac enlargement is again noted.",
    "Cardiomegaly, {sev}, is unchanged.",
  ),
  "effusion": (
    "{Sev} {side} pleural effusion{s}.",
    "{Sev} {side} pleural effusion{s} {is} present.",
    "There {is} {sev} {side} pleural effusion{s}.",
    "Blunting of the {side} costophrenic angle{s} from {sev} pleural "
    "effusion{s}.",
    "{Sev} pleural effusion{s} on the {side2}.",
    "Pleural effusion{s}, {sev}, on the {side2}.",
    "{Sev} {side} effusion{s} layering in the pleural space.",
    "Pleural fluid on the {side2} in keeping with {sev} effusion{s}.",
    "Persistent {sev} {side} pleural effusion{s}.",
  ),
  "consolidation": (
    "{Sev} consolidation in the {where}.",
    "There is {sev} consolidation in the {where}.",
    "{Sev} airspace consolidation is seen in the {where}.",
    "Consolidation of the {where}, {sev} in extent.",
    "{Sev} opacity in the {where} compatible with consolidation.",
    "Focal consolidation is present in the {where}.",
    "{Sev} consolidation with air bronchograms in the {where}.",
    "Airspace opacity in the {where} represents {sev} consolidation.",
    "New {sev} consolidation within the {where}.",
  ),
  "plate": (
    "{Sev} atelectasis in the {where}.",
    "There is {sev} linear atelectasis in the {where}.",
    "Linear bands of atelectasis in the {where}.",
    "{Sev} plate-like atelectasis in the {where}.",
    "{Sev} subsegmental atelectasis is seen in the {where}.",
    "Linear opacities in the {where} reflect {sev} atelectasis.",
    "Atelectasis is present in the {where}.",
    "{Sev} streaky atelectasis of the {where}.",
  ),
  "volume loss": (
    "{Sev} atelectasis in the {where} with volume loss.",
    "There is {sev} atelectasis of the {where}.",
    "Volume loss and atelectasis of the {where}.",
    "{Sev} atelectasis in the {where}.",
    "Opacity in the {where} with volume loss, consistent with {sev} "
    "atelectasis.",
    "{Sev} collapse of the {where} from atelectasis.",
    "Atelectasis is present in the {where}.",
    "Persistent {sev} atelectasis of the {where}.",
  ),
  "edema": (
    "{Sev} pulmonary edema.",
    "There is {sev} pulmonary edema.",
    "{Sev} pulmonary edema is present.",
    "Perihilar haze consistent with {sev} pulmonary edema.",
    "{Sev} interstitial pulmonary edema with vascular congestion.",
    "Pulmonary vascular congestion and {sev} edema.",
    "Findings of {sev} pulmonary edema.",
    "Indistinct pulmonary vessels compatible with {sev} edema.",
    "Pulmonary edema, {sev}, is again seen.",
  ),
  "pneumothorax": (
    "{Sev} {side} pneumothorax.",
    "There is {sev} {side} pneumothorax.",
    "{Sev} {side} apical pneumothorax is present.",
    "A pleural line on the {side2} indicates {sev} pneumothorax.",
    "{Sev} pneumothorax on the {side2}.",
    "Pneumothorax on the {side2}, {sev} in size.",
    "Persistent {sev} {side} pneumothorax.",
    "{Sev} {side} pneumothorax without shift of the mediastinum.",
  ),
  "nodule": (
    "{Sev} nodule in the {where}.",
    "There is {sev} pulmonary nodule in the {where}.",
    "{Sev} nodular opacity in the {where}.",
    "A nodule projects over the {where}.",
    "Pulmonary nodule in the {where}, {sev}.",
    "{Sev} lung nodule is seen in the {where}.",
    "{Sev} round nodule of the {where}, further evaluation with CT is "
    "suggested.",
    "Stable {sev} nodule in the {where}.",
  ),
  "endotracheal tube": (
    "Endotracheal tube terminates above the carina.",
    "The endotracheal tube is in standard position.",
    "An endotracheal tube is in place.",
    "ET tube tip is above the carina.",
  ),
  "jugular line": (
    "{Side} internal jugular central venous catheter ends in the SVC.",
    "{Side} jugular line tip projects over the SVC.",
    "A {side} central line is in place.",
    "{Side} IJ catheter terminates in the cavoatrial junction.",
  ),
  "subclavian line": (
    "{Side} subclavian catheter ends in the SVC.",
    "{Side} subclavian line is in unchanged position.",
    "A {side} subclavian central venous catheter is in place.",
    "{Side} PICC tip projects over the lower SVC.",
  ),
  "pacemaker": (
    "{Side} pacemaker with leads in the right atrium and right ventricle.",
    "{Side} chest wall pacemaker is in place.",
    "A dual lead {side} pacemaker is unchanged.",
    "{Side} pectoral pacemaker leads are in standard position.",
  ),
  "nasogastric tube": (
    "Nasogastric tube courses below the diaphragm.",
    "Enteric tube ends in the stomach.",
    "The nasogastric tube is in place.",
    "An enteric tube passes into the stomach.",
  ),
  "chest tube": (
    "{Side} chest tube is in place.",
    "A {side} pleural tube is unchanged.",
    "{Side} chest tube projects over the lung apex.",
    "There is a {side} chest tube.",
  ),
}

UNCERTAIN = {
  "cardiomegaly": (
    "Possible mild cardiomegaly.",
    "Mild cardiomegaly cannot be excluded.",
    "The heart may be mildly enlarged.",
  ),
  "effusion": (
    "Possible small {side} pleural effusion{s}.",
    "Small {side} pleural effusion{s} cannot be excluded.",
    "Hazy {side} costophrenic angle{s} may represent small pleural "
    "effusion{s}.",
  ),
  "consolidation": (
    "Possible consolidation in the {where}.",
    "Opacity in the {where} may represent consolidation.",
    "Early consolidation in the {where} cannot be excluded.",
  ),
  "atelectasis": (
    "Possible atelectasis in the {where}.",
    "Opacity in the {where} may represent atelectasis.",
    "{Sev} atelectasis in the {where} is suspected.",
  ),
  "edema": (
    "Possible mild pulmonary edema.",
    "Mild pulmonary edema cannot be excluded.",
    "Vascular prominence may represent mild edema.",
  ),
  "pneumothorax": (
    "Possible small {side} pneumothorax.",
    "Small {side} apical pneumothorax cannot be excluded.",
    "A line at the {side} apex may represent a small pneumothorax.",
  ),
  "nodule": (
    "Possible nodule in the {where}.",
    "Nodular opacity in the {where} may represent a nodule.",
    "A small nodule in the {where} cannot be excluded.",
  ),
}

# (sentence, the findings that it denies)
ABSENT = (
  ("No support devices.", ("devices",)),
  ("No lines or tubes are seen.", ("devices",)),
  ("There is no pacemaker, line or tube.", ("devices",)),
  ("No pleural effusion.", ("effusion",)),
  ("There is no pleural effusion.", ("effusion",)),
  (
    "The costophrenic angles are sharp, without pleural effusion.",
    ("effusion",),
  ),
  ("No pneumothorax.", ("pneumothorax",)),
  ("There is no pneumothorax.", ("pneumothorax",)),
  ("No evidence of pneumothorax.", ("pneumothorax",)),
  ("No pleural effusion or pneumothorax.", ("effusion", "pneumothorax")),
  (
    "There is no pleural effusion or pneumothorax.",
    ("effusion", "pneumothorax"),
  ),
  ("No focal consolidation.", ("consolidation",)),
  ("There is no focal consolidation.", ("consolidation",)),
  ("No consolidation is seen.", ("consolidation",)),
  (
    "No focal consolidation, pleural effusion or pneumothorax.",
    ("consolidation", "effusion", "pneumothorax"),
  ),
  (
    "There is no focal consolidation, effusion, or pneumothorax.",
    ("consolidation", "effusion", "pneumothorax"),
  ),
  (
    "The lungs are clear without consolidation or edema.",
    ("consolidation", "edema"),
  ),
  ("No pulmonary edema.", ("edema",)),
  ("There is no pulmonary edema.", ("edema",)),
  ("No pulmonary vascular congestion or edema.", ("edema",)),
  ("No cardiomegaly.", ("cardiomegaly",)),
  ("The heart is normal in size, without cardiomegaly.", ("cardiomegaly",)),
  ("There is no cardiomegaly.", ("cardiomegaly",)),
  ("No atelectasis.", ("atelectasis",)),
  ("The lungs are well expanded without atelectasis.", ("atelectasis",)),
  ("No pulmonary nodule is seen.", ("nodule",)),
)

NORMAL = (
  "No acute cardiopulmonary process.",
  "No acute cardiopulmonary abnormality.",
  "Normal chest radiograph.",
  "No acute intrathoracic process.",
  "No radiographic evidence of acute disease.",
  "Normal chest.",
  "The lungs are clear.",
  "No evidence of acute cardiopulmonary disease.",
)

# Said of anyone; they assert nothing that the tables hold.
ASIDE = (
  "The mediastinal and hilar contours are unremarkable.",
  "The mediastinal contours are normal.",
  "Osseous structures are unremarkable.",
  "No acute bony abnormality.",
  "Degenerative changes of the thoracic spine.",
  "The aorta is tortuous.",
  "Calcification of the aortic knob.",
  "The imaged upper abdomen is unremarkable.",
  "Lung volumes are low.",
  "The patient is slightly rotated.",
  "Hilar contours are stable.",
  "The trachea is midline.",
)

CHANGE = (
  "In comparison with the study of ___, there is little overall change.",
  "As compared to the previous radiograph, the findings are similar.",
  "Compared with the prior study of ___, there has been interval change.",
)

INDICATION = (
  "___ year old {person} with cough and fever  // pneumonia?",
  "___ year old {person} with shortness of breath  // evaluate for edema",
  "___ year old {person} with chest pain",
  "{Person} with weakness, evaluate for acute process.",
  "___ year old {person} status post surgery  // interval change",
  "___ {person} with dyspnea",
  "___ year old {person} with hypoxia  // acute process?",
)

# By side and zone; "" stands for the whole lung.
WHERE = {
  ("right", "upper"): (
    "right upper lobe",
    "right upper lung zone",
    "right apex",
  ),
  ("right", "mid"): ("right middle lobe", "right mid lung"),
  ("right", "lower"): ("right lower lobe", "right base", "right lung base"),
  ("left", "upper"): ("left upper lobe", "left upper lung zone", "left apex"),
  ("left", "mid"): ("lingula", "left mid lung"),
  ("left", "lower"): ("left lower lobe", "left base", "left lung base"),
  ("both", "upper"): ("bilateral upper lobes", "upper lobes of both lungs"),
  ("both", "mid"): ("bilateral mid lungs", "mid portions of both lungs"),
  ("both", "lower"): ("bilateral lower lobes", "both lung bases"),
}
